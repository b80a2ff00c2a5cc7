"""Tools of real MCP servers, over stdio and streamable HTTP: ``mcp_server``, ``mcp_session`` and ``mcp_link``.

Starting a server takes a second, so tests share them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from at2po_env import EnvError, ForkError, McpServer, ReplayDiverged, ToolEnv, ToolRules, ToolTask, ToolUnavailable
from at2po_env.state import ToolMessage, plain
from at2po_env.testing import TaskContract

pytest.importorskip("mcp")
from tests.helpers.mcp_servers import COUNTER, HOSTILE, HttpCounter, http_counter
from tests.helpers.places import ROOT
from tests.helpers.servers import answering

TASKS = [ToolTask(f"to-{n}", f"Make {n}.") for n in (7, 8)]


def env_of(server: McpServer, **rules: Any) -> ToolEnv:
    rules = {"on_malformed": "continue", "max_turns": 30, **rules}
    env = ToolEnv(server.tools(), TASKS, lambda end: float(end.answer == end.task.id[3:]), ToolRules.of(**rules))
    env.reset(options={"task_id": "to-7"})
    return env


def result(env: ToolEnv, action: str) -> str:
    """What a turn brings, without the dialect's lines around it."""
    return env.step(action)[0].removeprefix("\n<result>\n").removesuffix("\n</result>\n")


@pytest.fixture(scope="module")
def stateless() -> Iterator[McpServer]:
    with McpServer.stdio(COUNTER, stateless=True) as server:
        yield server


@pytest.fixture(scope="module")
def http() -> Iterator[HttpCounter]:
    with http_counter() as server:
        yield server


class TestStateless(TaskContract):
    @pytest.fixture(autouse=True)
    def _server(self, stateless: McpServer) -> None:
        self.server = stateless

    def make_env(self) -> ToolEnv:
        reward = reached
        return ToolEnv(self.server.tools("twice", "text.join"), TASKS, reward, ToolRules.of(max_turns=4))

    def actions(self) -> list[str]:
        return ["<twice>4</twice>", '<text_join>{"texts": ["a", "b"]}</text_join>', "<answer>7</answer>"]

    def other_actions(self) -> list[str]:
        return ["<twice>1</twice>", "<answer>no</answer>"]


def reached(end: Any) -> float:
    return float(end.answer == "7")


def test_tools_have_the_schema_of_the_server(stateless: McpServer) -> None:
    (tool,) = stateless.tools("text.join")
    assert tool.schema["function"]["name"] == "text_join" and tool.description == "Join texts."
    assert tool.parameters == ("texts", "by")
    assert tool.schema["function"]["parameters"]["required"] == ["texts"]
    with pytest.raises(EnvError, match="has no tool nothing; it has add, twice"):
        stateless.tools("nothing")


@pytest.mark.parametrize(
    ("dialect", "call"),
    [
        ("tags", '<text_join>{"texts": ["a", "b"]}</text_join>'),
        ("bare", '<text_join>{"texts": ["a"], "by": ""}</text_join>'),
        ("chat", '<text_join>{"texts": ["a", "b"], "by": "-"}</text_join>'),
        ("native", '<tool_call>{"name": "text_join", "arguments": {"texts": ["a", "b"]}}</tool_call>'),
    ],
)
def test_every_dialect_calls_them(stateless: McpServer, dialect: str, call: str) -> None:
    env = env_of(stateless, dialect=dialect)
    env.step(call)
    assert plain(env.observation()).strip().removeprefix("<result>").removesuffix("</result>").strip() in (
        "a b", "a", "a-b",
    )  # fmt: skip
    if dialect == "native":
        assert isinstance(env.observation(), ToolMessage) and env.chat is not None
        assert "text_join" in [tool["function"]["name"] for tool in env.chat.tools]


def test_what_goes_wrong_is_an_observation(stateless: McpServer) -> None:
    env = env_of(stateless, max_result_chars=300)
    assert result(env, "<fail></fail>") == "error: fail: Error executing tool fail: this went wrong"
    assert result(env, "<twice>many</twice>").startswith("error: twice: Error executing tool twice: 1 validation error")
    assert result(env, '<twice>{"m": 1}</twice>').startswith("error: twice: ")
    assert result(env, "<mixed></mixed>") == "first\n[image]\nof a file"
    assert result(env, "<flood></flood>") == "x" * 299 + "…"
    assert result(env, "<twice>4</twice>") == "8"
    native = env_of(stateless, dialect="native")
    assert "there is no tool 'nix'" in native.step('<tool_call>{"name": "nix", "arguments": {}}</tool_call>')[0]


def test_a_call_that_takes_too_long_is_an_observation_too(http: HttpCounter) -> None:
    with McpServer.http(http.url, stateless=True, timeout=3) as server:
        assert result(env_of(server, timeout=0.1), "<wait>30</wait>") == "error: wait: no result within 0.1 s"
        env = env_of(server)
        assert result(env, "<wait>30</wait>") == "error: wait: no result within 3 s"
        asyncio.run(asyncio.wait_for(_impatient(env), 10))
        assert result(env, "<twice>1</twice>") == "2"  # what was cancelled left the session whole


async def _impatient(env: ToolEnv) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(env.astep("<wait>30</wait>"), 0.1)


def test_many_episodes_wait_at_the_same_time(stateless: McpServer) -> None:
    async def wait() -> float:
        envs = [env_of(stateless) for _ in range(20)]
        began = time.monotonic()
        await asyncio.gather(*(env.astep("<wait>0.3</wait>") for env in envs))
        return time.monotonic() - began

    assert asyncio.run(wait()) < 20 * 0.3


def test_forks_of_a_stateless_server_share_its_session(stateless: McpServer) -> None:
    env = env_of(stateless)
    process = result(env, "<process></process>")
    one, two = env.fork(2)
    assert result(one, "<twice>2</twice>") == "4" and result(two, "<process></process>") == process
    again = env_of(stateless)
    again.reset(options={"snapshot": json.loads(json.dumps(one.snapshot().to_json()))})
    assert again.episode == one.episode and result(again, "<twice>5</twice>") == "10"


def test_a_stateless_server_that_dies_is_started_again() -> None:
    with McpServer.stdio(COUNTER, stateless=True) as server:
        env = env_of(server)
        process = result(env, "<process></process>")
        before = env.snapshot()
        os.kill(int(process), signal.SIGKILL)
        with pytest.raises(ToolUnavailable, match=r"mcp_counter.* is gone: it closed the connection"):
            env.step("<process></process>")
        assert env.snapshot() == before and result(env, "<process></process>") != process


def test_an_episode_has_a_session_of_its_own_that_cannot_be_forked(http: HttpCounter) -> None:
    with McpServer.http(http.url) as server:
        env, other = env_of(server), env_of(server)
        root = env.snapshot()
        assert [result(env, "<add>3</add>"), result(other, "<add>1</add>")] == ["3", "1"]
        for onwards in (lambda: env.fork(2), lambda: env.clone().restore(env.snapshot())):
            with pytest.raises(ForkError, match=r"127\.0\.0\.1.*stateless=True.*how='replay'"):
                onwards()
        env.restore(env.snapshot())  # where it is
        assert result(env, "<add>4</add>") == "7"
        env.restore(root)  # the beginning is a new session
        assert result(env, "<add>5</add>") == "5"
        env.step("<answer>7</answer>")
        done = env.clone()
        done.restore(env.snapshot())  # nothing is called there any more
        assert done.info()["ended"] == "answer"
    env.reset()
    with pytest.raises(ToolUnavailable, match=r"127\.0\.0\.1.* was closed"):
        env.step("<add>1</add>")


@pytest.mark.slow
def test_over_stdio_a_session_is_a_process_that_ends_with_the_episode() -> None:
    with McpServer.stdio(COUNTER) as server:
        env, dropped = env_of(server), env_of(server)
        process, other = int(result(env, "<process></process>")), int(result(dropped, "<process></process>"))
        assert process != other
        env.step("<answer>7</answer>")
        del dropped
        gc.collect()
        _wait_until_gone(process, other)
        env.reset()
        with pytest.raises(ToolUnavailable, match="is gone: the counter has had enough"):
            env.step("<die></die>")
        env.reset()
        last = int(result(env, "<process></process>"))
    _wait_until_gone(last)


def _wait_until_gone(*processes: int) -> None:
    deadline = time.monotonic() + 20
    while any(map(psutil.pid_exists, processes)):
        assert time.monotonic() < deadline, f"one of {processes} is still there"
        time.sleep(0.02)


def test_a_fork_makes_its_calls_again_where_that_brings_the_state_back(http: HttpCounter) -> None:
    with McpServer.http(http.url, how="replay") as server:
        env = env_of(server)
        assert result(env, "<add>3</add>") == "3"
        one, two = env.fork(2)
        assert [result(one, "<add>4</add>"), result(two, "<add>5</add>")] == ["7", "8"]
        again = env_of(server)
        again.reset(options={"snapshot": json.loads(json.dumps(two.snapshot().to_json()))})
        assert result(again, "<add>1</add>") == "9" and result(env, "<add>1</add>") == "4"


def test_what_happens_when_a_server_is_killed_in_the_middle_of_episodes() -> None:
    with contextlib.ExitStack() as stack:
        http = stack.enter_context(http_counter())
        options: list[Any] = [{}, {"stateless": True}, {"how": "replay"}, {"how": "replay"}]
        envs = [env_of(stack.enter_context(McpServer.http(http.url, **given))) for given in options]
        kept, stateless, replayed, diverges = envs
        assert [result(env, "<twice>1</twice>") for env in envs] == ["2"] * 4
        process = result(diverges, "<process></process>")
        before = [env.snapshot() for env in envs]
        http.kill()
        for env in envs:
            for _ in range(2):
                with pytest.raises(ToolUnavailable, match=r"the MCP server at http://127\.0\.0\.1:\d+/mcp"):
                    env.step("<add>1</add>")
        assert [env.snapshot() for env in envs] == before
        http.start()
        assert result(stateless, "<twice>2</twice>") == "4" and result(replayed, "<add>3</add>") == "3"
        with pytest.raises(ToolUnavailable, match=r"the session of this episode is lost.*stateless=True"):
            kept.step("<add>1</add>")
        kept.reset()
        assert result(kept, "<add>5</add>") == "5"
        with pytest.raises(ReplayDiverged, match=rf"task 'to-7'.*turn 2: .*{process}.*starts anew with each session"):
            diverges.step("<add>1</add>")


def test_a_server_that_cannot_be_reached_says_so() -> None:
    with McpServer.stdio(["no-such-program"]) as server, pytest.raises(ToolUnavailable, match="no-such-program"):
        server.tools()
    with (
        McpServer.stdio(["python3", "-c", "raise SystemExit('not today')"]) as server,
        pytest.raises(ToolUnavailable, match=r"cannot be reached: .*not today"),
    ):
        server.tools()
    with (
        McpServer.http("http://me:secret@127.0.0.1:9/mcp") as server,
        pytest.raises(ToolUnavailable, match=r"at http://127\.0\.0\.1:9/mcp cannot be reached"),
    ):
        server.tools()
    with (
        McpServer.stdio(["sleep", "60"], timeout=0.2) as server,
        pytest.raises(ToolUnavailable, match=r"no answer within 0\.2 s"),
    ):
        server.tools()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: McpServer.stdio("python server.py"), "must be a list"),
        (lambda: McpServer.stdio(["x"], stateless=True, how="replay"), "forks share the session"),
        (lambda: McpServer.stdio(["x"], how="copy"), "how must be 'replay'"),
        (lambda: McpServer.stdio(["x"], timeout=0), "timeout must be above 0"),
        (lambda: McpServer.http("ftp://host/mcp"), "address is http"),
    ],
)
def test_options_are_checked(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_a_hostile_description_is_refused_in_one_line() -> None:
    tool = {"name": "read", "input_schema": {"type": "object", "properties": {"</think>": {"type": "string"}}}}
    with (
        McpServer.stdio([*HOSTILE, json.dumps([tool])]) as server,
        pytest.raises(EnvError, match=r"tool 'read': a parameter's name must be") as refused,
    ):
        server.tools()
    assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_sessions_of_its_own(http: HttpCounter) -> None:
    with McpServer.http(http.url, stateless=True) as shared, McpServer.http(http.url) as server:
        env, kept = env_of(shared), env_of(server)
        assert [result(env, "<twice>1</twice>"), result(kept, "<add>1</add>")] == ["2", "1"]

        def in_fork() -> None:
            assert result(env, "<twice>2</twice>") == "4"
            with pytest.raises(ToolUnavailable, match="belongs to process"):
                kept.step("<add>1</add>")
            shared.close()

        child = multiprocessing.get_context("fork").Process(target=in_fork)
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert [result(env, "<twice>3</twice>"), result(kept, "<add>1</add>")] == ["6", "2"]


def shout(text: str, state: dict[str, Any]) -> str:
    """Shout."""
    state["shouted"] = state.get("shouted", 0) + 1
    return text.upper()


def test_functions_and_tools_of_several_servers_go_together(stateless: McpServer, http: HttpCounter) -> None:
    with McpServer.http(http.url, how="replay") as counter:
        env = ToolEnv([shout, *stateless.tools("twice"), *counter.tools("add")], TASKS, reached)
        env.reset()
        turns = ["<shout>hey</shout>", "<twice>2</twice>", "<add>3</add>"]
        assert [result(env, turn) for turn in turns] == ["HEY", "4", "3"]
        (fork,) = env.fork(1)
        assert result(fork, "<twice>3</twice>") == "6"  # the counter is not asked
        assert result(fork, "<add>1</add>") == "4" and json.loads(fork.episode.state) == {"shouted": 1}


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvError, match=r"pip install 'at2po\[mcp\]'"):
        McpServer.stdio(["python", "server.py"])


def test_two_tools_of_one_name_are_refused(stateless: McpServer) -> None:
    with pytest.raises(ValueError, match=r"tool names \['twice'\] are taken"):
        ToolEnv([*stateless.tools("twice"), *stateless.tools("twice")], TASKS, reached)


class Refuses(BaseHTTPRequestHandler):
    status = 503

    def do_POST(self) -> None:
        self.send_error(self.status)

    def log_message(self, *said: Any) -> None:
        pass


@pytest.mark.parametrize("status", [401, 503])
def test_a_proxy_that_refuses_is_named_by_its_status_and_no_secret_is_shown(status: int) -> None:
    handler = type("Refuses", (Refuses,), {"status": status})
    with answering(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as proxy:
        url = f"http://me:secret@127.0.0.1:{proxy.server_address[1]}/mcp"
        said = pytest.raises(ToolUnavailable, match=f"cannot be reached: HTTP {status}$")
        with McpServer.http(url, stateless=True) as server, said as refused:
            server.tools()
    assert "secret" not in str(refused.value)


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    section = (ROOT / "docs/own_environment.md").read_text().split("\n## Tools of an MCP server\n")[1].split("\n## ")[0]
    ours, theirs, named = re.findall(r"```python\n(.+?)```", section, re.S)
    ours += f"{named}print(*gymnasium.make('Sums-v0', split='test').unwrapped.tools)"
    (tmp_path / "server.py").write_text(theirs)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [sys.executable, "-c", ours], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout.split()) == (0, ["<result>", "7", "</result>", "add"]), ran.stderr


def test_a_server_that_nobody_closes_ends_with_the_process() -> None:
    code = (
        "import sys; from at2po_env import McpServer, ToolEnv, ToolTask\n"
        "server = McpServer.stdio(sys.argv[1:], stateless=True)\n"
        "env = ToolEnv(server.tools(), [ToolTask('a', 'A.')], lambda end: 0.0)\n"
        "env.reset(); print(env.step('<process></process>')[0].split()[1])"
    )
    ran = subprocess.run([sys.executable, "-c", code, *COUNTER], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (ran.returncode, ran.stderr) == (0, "")
    _wait_until_gone(int(ran.stdout))
