from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from at2po_env.dataset import DataError
from at2po_env.errors import SnapshotError
from at2po_env.state import ToolMessage, UserMessage, plain
from at2po_env.testing import TaskContract
from at2po_env.tool_dialects import ToolAction
from at2po_env.tool_env import ToolEnv
from at2po_env.tool_rules import Finished, ToolRules, ToolTask
from examples.number_game import make_env


class TestNumberGame(TaskContract):
    def make_env(self) -> ToolEnv:
        return make_env()

    def actions(self) -> list[str]:
        return ["<add>4</add>", "thinking <double></double>", "<stop></stop>"]

    def other_actions(self) -> list[str]:
        return ["<double></double>", "<answer>no</answer>"]


def greet(name: str, times: int = 1) -> str:
    """Greet somebody."""
    return f"hello {name} " * times


async def wait(seconds: float) -> str:
    """Wait."""
    await asyncio.sleep(seconds)
    return "done"


def block(seconds: float) -> str:
    """Block."""
    time.sleep(seconds)
    return "done"


def spoil(state: dict[str, Any]) -> str:
    """Change the state, and fail."""
    state["touched"] = True
    raise RuntimeError("spoiled")


def flood() -> Any:
    """Return more than anybody reads."""
    return ("x" * 1000 for _ in iter(int, 1))


def env_of(*tools: Any, **rules: Any) -> ToolEnv:
    rules = {"dialect": "bare", "on_malformed": "continue", **rules}
    env = ToolEnv(tools, [ToolTask("t", "Do it.", state={"n": 0})], lambda end: end.turns / 10, ToolRules.of(**rules))
    env.reset()
    return env


def seen(env: ToolEnv, action: str) -> str:
    return env.step(action)[0].removeprefix("<result> ").removesuffix(" </result>")


def test_gymnasium_finds_nothing_wrong_with_it() -> None:
    check_env(make_env(), skip_render_check=True)
    assert gymnasium.make("examples.number_game:Numbers-v0", max_turns=3).unwrapped.rules.max_turns == 3


@pytest.mark.parametrize("dialect", ["tags", "bare", "chat", "native"])
def test_a_task_is_solved_in_every_dialect(dialect: str) -> None:
    env = make_env(dialect=dialect)
    env.reset(options={"task_id": "to-16"})
    calls = [("add", {"n": 7}), ("double", {}), ("stop", {})]
    for tool, arguments in calls:
        turn = env.rules.dialect.write(ToolAction("call", tool, arguments), env.tools)
        observation, reward, terminated, _, info = env.step(turn)
        assert info["action"]["kind"] == "call" and info["action"]["content"].startswith(tool)
        kind = {"chat": UserMessage, "native": ToolMessage}.get(dialect, tuple)
        assert type(env.observation()) is kind and observation == plain(env.observation())
    assert (reward, terminated, info["ended"], info["success"]) == (1.0, True, "done", 1.0)


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("<greet>you</greet>", "the call has no JSON object of its arguments"),  # it has two
        ('<greet>{"name": "you", "times": 2}</greet>', "hello you hello you"),
        ('<greet>{"name": "you", "times": "many"}</greet>', "error: greet: times: "),
        ('<greet>{"nom": "you"}</greet>', "error: greet: name: Field required; nom: Extra inputs"),
        ("<greet>{</greet>", "the call has no JSON object of its arguments"),
        ("nothing", "no complete <greet> or "),
        ("<spoil></spoil>", "error: spoil: RuntimeError: spoiled"),
    ],
)
def test_whatever_is_wrong_with_a_call_is_read_by_the_model_and_the_episode_goes_on(action: str, said: str) -> None:
    env = env_of(greet, spoil)
    text = seen(env, action)
    assert text.startswith(said)
    assert env.episode.ended is None and json.loads(env.episode.state) == {"n": 0}


def test_a_native_call_of_a_tool_that_there_is_not_names_those_that_there_are() -> None:
    env = env_of(greet, dialect="native")
    assert "there is no tool 'fly'; there are greet" in seen(env, '<tool_call>{"name": "fly"}</tool_call>')


def test_results_are_cut_before_they_are_whole() -> None:
    env = env_of(flood, max_result_chars=1500)
    text = seen(env, "<flood></flood>")
    assert len(text) == 1500 and text.endswith("x…")


@pytest.mark.parametrize("tool", ["wait", "block"])
def test_a_call_that_takes_too_long_ends_with_words(tool: str) -> None:
    env = env_of(wait, block, timeout=0.05)
    assert seen(env, f"<{tool}>1</{tool}>") == f"error: {tool}: no result within 0.05 s"
    assert seen(env, f"<{tool}>0</{tool}>") == "done"


def test_asynchronous_tools_wait_together() -> None:
    async def play() -> list[Any]:
        return await asyncio.gather(*(env_of(wait).astep("<wait>0.2</wait>") for _ in range(20)))

    started = time.perf_counter()
    assert len(asyncio.run(play())) == 20
    assert time.perf_counter() - started < 2  # one after another they take 4 s


def test_forks_share_no_state() -> None:
    env = make_env()
    env.reset(options={"task_id": "to-16"})
    one, two = env.fork(2)
    one.step("<add>9</add>")
    assert [json.loads(each.episode.state)["number"] for each in (env, one, two)] == [1, 10, 1]


def test_any_callable_can_be_the_reward() -> None:
    class Answered:
        def __call__(self, end: Finished) -> float:
            return float(end.ended == "answer")

    for reward in (Answered(), partial(lambda least, end: float(end.turns >= least), 1)):
        env = ToolEnv([greet], [ToolTask("t", "?", state={"n": 1})], reward)
        env.reset()
        assert env.step("<answer>here</answer>")[1] == 1.0


@pytest.mark.parametrize("on_malformed", ["end", "continue"])
def test_what_a_malformed_turn_does(on_malformed: str) -> None:
    env = env_of(greet, on_malformed=on_malformed, max_turns=2)
    assert env.step("nothing")[2] is (on_malformed == "end")
    if on_malformed == "continue":
        assert env.step("nothing")[3] and env.info()["ended"] == "turn_limit"


def test_the_reward_sees_how_it_ended() -> None:
    ends: list[Finished] = []
    env = ToolEnv([greet], [ToolTask("t", "?", state={"n": 1})], lambda end: ends.append(end) or 0.5)
    env.reset()
    env.step("<answer>here</answer>")
    assert ends == [Finished(ToolTask("t", "?", state={"n": 1}), "answer", "here", {"n": 1}, 1)]
    assert env.info()["success"] == 0.0 and env.info()["reward"] == 0.5


@pytest.mark.parametrize(
    "other",
    [lambda: make_env(max_turns=5), lambda: make_env("test"), lambda: make_env(dialect="tags"), lambda: env_of(greet)],
)
def test_a_snapshot_of_another_environment_is_refused(other: Any) -> None:
    env = make_env()
    env.reset(seed=1)
    with pytest.raises(SnapshotError, match="other tools, tasks, reward or limits"):
        other().restore(env.snapshot())


def test_bad_environments_are_refused() -> None:
    task = ToolTask("t", "?")
    with pytest.raises(DataError, match="no tasks"):
        ToolEnv([greet], [], len)
    with pytest.raises(DataError, match="the same id"):
        ToolEnv([greet], [task, task], len)
    with pytest.raises(DataError, match="JSON values"):
        ToolEnv([greet], [ToolTask("t", "?", state={"n": object()})], len)
    with pytest.raises(ValueError, match=r"ends names unknown tools \['fly'\]"):
        ToolEnv([greet], [task], len, ToolRules.of(ends=("fly",)))
