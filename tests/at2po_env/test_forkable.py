from __future__ import annotations

import asyncio
import json
import random
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_env import DataError, EnvError, Forkable, ForkError, ForkRules, ReplayDiverged, SnapshotError
from at2po_env.state import UserMessage
from at2po_env.testing import TaskContract
from tests.helpers.foreign_games import Dice, Moody, NoText, OldGame, Pixels, Uncopyable, old_reset, old_step

WAYS: tuple[Literal["copy", "replay"], ...] = ("copy", "replay")
ways = pytest.mark.parametrize("how", WAYS)


class DiceContract(TaskContract):
    how: Literal["copy", "replay"]

    def make_env(self) -> Forkable:
        return Forkable(Dice, self.how, tasks=50)

    def actions(self) -> list[str]:
        return ["roll", "<think>more?</think> roll", "jump", "stop"]

    def other_actions(self) -> list[str]:
        return ["jump", "roll", "stop"]


class TestCopy(DiceContract):
    how = "copy"


class TestReplay(DiceContract):
    how = "replay"


class TestCopyThatHoldsNearlyNothing(DiceContract):
    def make_env(self) -> Forkable:
        return Forkable(lambda: gymnasium.make("Dice-v0", disable_env_checker=True), tasks=50, max_live=1)


class TestTags(DiceContract):
    def make_env(self) -> Forkable:
        rules = ForkRules(tag="action", on_malformed="continue", max_turns=4, as_messages=True)
        return Forkable(Dice(), "replay", {"a": 3, "b": {"seed": 3, "options": {"bonus": 4}}, "c": {}}, rules)

    def actions(self) -> list[str]:
        return ["<action>roll</action>", "I will roll", "<think><action>stop</action></think>", "<action>roll</action>"]

    def other_actions(self) -> list[str]:
        return ["<action>stop</action>"]


class TestAdapted(DiceContract):
    def make_env(self) -> Forkable:
        return Forkable.adapt(OldGame, reset=old_reset, step=old_step, how="replay", tasks=[2, 3, 4])

    def actions(self) -> list[str]:
        return ["one", "two", "two", "two"]

    def other_actions(self) -> list[str]:
        return ["two", "two"]

    def test_an_object_that_is_no_environment_is_played(self) -> None:
        env = Forkable.adapt(OldGame(), reset=old_reset, step=old_step, tasks=[0, 3])
        assert env.reset(options={"task_id": "seed-3"})[0] == "5 matches\n"
        assert env.step("two")[0] == "\n<observation>\n3 left\n</observation>\n"
        assert env.name == "tests.helpers.foreign_games.OldGame"


def play(env: Forkable, actions: list[str]) -> list[str]:
    return [env.step(action)[0] for action in actions]


@ways
@given(
    before=st.lists(st.sampled_from(["roll", "wait"]), max_size=3),
    ways_on=st.lists(st.lists(st.sampled_from(["roll", "wait"]), min_size=1, max_size=3), min_size=1, max_size=4),
    task=st.integers(0, 9),
    max_live=st.integers(1, 4),
)
def test_every_way_on_from_a_fork_is_the_way_of_an_episode_of_its_own(
    how: Literal["copy", "replay"], before: list[str], ways_on: list[list[str]], task: int, max_live: int
) -> None:
    make = partial(Forkable, partial(Dice, sides=2), how, 10, max_live=max_live)
    start = {"task_id": f"seed-{task}"}
    env = make()
    env.reset(options=start)
    play(env, before)
    forks = env.fork(len(ways_on))
    moves = max(map(len, ways_on))
    steps: list[list[Any]] = [[] for _ in forks]
    for turn in range(moves):  # in turns, so that each disturbs the others where they share anything
        for fork, way, seen in zip(forks, ways_on, steps, strict=True):
            if turn < len(way):
                seen.append(fork.step(way[turn]))
    for fork, way, seen in zip(forks, ways_on, steps, strict=True):
        alone = make()
        alone.reset(options=start)
        play(alone, before)
        assert [alone.step(action) for action in way] == seen
        assert alone.snapshot() == fork.snapshot()
        restored = make()
        restored.reset(options={"snapshot": json.loads(json.dumps(fork.snapshot().to_json()))})
        assert restored.snapshot() == fork.snapshot() and restored.info() == fork.info()


@ways
def test_the_callers_own_random_state_is_left_alone_and_changes_nothing(how: Literal["copy", "replay"]) -> None:
    random.seed(1)
    np.random.seed(1)
    expected = [random.random() for _ in range(4)], np.random.random(4).tolist()
    random.seed(1)
    np.random.seed(1)
    drawn: tuple[list[float], list[float]] = ([], [])
    seen = []
    for disturb in (False, True):
        env = Forkable(Dice, how, tasks=9)
        env.reset(options={"task_id": "seed-4"})
        for _ in range(2):
            drawn[0].append(random.random())
            drawn[1].append(float(np.random.random()))
            seen.append(env.step("roll")[0])
            if disturb:
                other = env.fork(1)[0]
                other.step("roll")
                other.reset(seed=3)
    assert drawn == expected
    assert seen[:2] == seen[2:]


def test_a_game_that_fails_leaves_the_episode_and_both_random_states_as_they_were() -> None:
    class Fails(Dice):
        broken = True

        def step(self, action: str) -> Any:
            result = super().step(action)
            if action == "roll" and Fails.broken:
                raise ConnectionError("the table fell over")
            return result

    env, sound = Forkable(Fails, tasks=1), Forkable(Dice, tasks=1)
    env.reset()
    sound.reset()
    here, outside = env.snapshot(), random.getstate()
    with pytest.raises(ConnectionError):
        env.step("roll")
    assert env.snapshot() == here and random.getstate() == outside
    Fails.broken = False
    assert env.step("roll") == sound.step("roll")


@ways
def test_a_tree_holds_no_more_games_than_open_paths_and_max_live(how: Literal["copy", "replay"]) -> None:
    env = Forkable(Dice, how, tasks=3, max_live=5)
    env.reset(seed=1)
    root = env.snapshot()
    snapshots, most = [root], 0
    for leaf in range(22):
        paths = []
        for place in range(2):
            path = env.clone()
            path.restore(snapshots[(7 * leaf + place) % len(snapshots)])
            paths.append(path)
        for _ in range(4):
            for path in paths:
                if path.snapshot().ended is None:
                    path.step("wait" if leaf % 3 else "roll")
                    snapshots.append(path.snapshot())
        most = max(most, env.live)
        for path in paths:
            if path.snapshot().ended is None:
                path.step("stop")
        snapshots = [snapshot for snapshot in snapshots if snapshot.ended is None]
    assert len(snapshots) > 50 and most <= 5


def test_a_copy_goes_on_without_playing_again() -> None:
    env = Forkable(Moody, tasks=3)
    env.reset(seed=1)
    here = [env.snapshot()]
    for _ in range(3):
        env.step("wait")
        here.append(env.snapshot())
    before = Moody.played
    for snapshot in here:
        other = env.clone()
        other.restore(snapshot)
        assert Moody.played == before
        other.step("wait")
        before += 1
    assert Moody.played == before == env.reset(seed=1)[1]["turns"] + before


@pytest.mark.parametrize("max_live", [1, 64])
def test_a_replay_that_goes_another_way_is_one_error_that_names_the_turn(max_live: int) -> None:
    env = Forkable(Moody, "replay", tasks=3, max_live=max_live)
    env.reset(seed=1)
    env.step("wait")
    env.step("wait")
    first = Moody.played - 1
    with pytest.raises(
        ReplayDiverged, match=rf"at turn 1: .* It is {first} o'clock.*reward -0.125.* before, .*now"
    ) as error:
        env.fork(2)
    assert isinstance(error.value, EnvError) and len(str(error.value)) < 900
    # Of copies, one that is held no longer says the same.
    copied = Forkable(Moody, "copy", tasks=3)
    copied.reset(seed=1)
    copied.step("wait")
    with pytest.raises(ReplayDiverged, match="at turn 1"):
        Forkable(Moody, tasks=3).restore(copied.snapshot())


def test_a_first_observation_that_differs_is_named_too() -> None:
    class Forgetful(Dice):
        def reset(self, **given: Any) -> Any:
            return f"{super().reset(**given)[0]} {Dice.made}", {}

    env = Forkable(Forgetful, "replay", tasks=3)
    env.reset(seed=1)
    Dice.made += 1
    with pytest.raises(ReplayDiverged, match="at the first observation"):
        env.clone().restore(env.snapshot())


def test_what_cannot_be_forked_is_refused_with_what_to_do() -> None:
    with pytest.raises(ForkError, match=r"Pixels has observation_space=Box.* and action_space=Discrete\(2\).*adapt"):
        Forkable(Pixels)
    with pytest.raises(
        ForkError, match=r"Uncopyable cannot be copied \(TypeError: .*generator.*how='replay'.*function"
    ):
        Forkable(Uncopyable)
    with pytest.raises(ForkError, match="function that makes"):
        Forkable(Uncopyable(), "replay")
    env = Forkable(Uncopyable, "replay", tasks=2)
    env.reset(seed=0)
    assert len({fork.step("roll")[0] for fork in env.fork(3)}) == 1
    with pytest.raises(ForkError, match="its reset gave an observation of type bytes"):
        Forkable(NoText).reset()
    for given_, said in [
        ({"how": "clone"}, "how must be"),
        ({"max_live": 0}, "max_live"),
        ({"tasks": 0}, "tasks must be"),
        ({"tasks": 3, "split": "night"}, "name the tasks of split 'night'"),
        ({"tasks": [-1]}, "a seed from 0 on"),
        ({"tasks": {"a": {"sead": 1}}}, "task 'a'"),
    ]:
        with pytest.raises(ValueError, match=said):
            Forkable(Dice, **given_)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="JSON values"):
        Forkable(Dice, tasks={"a": {"options": {"x": object()}}})


def test_splits_have_seeds_that_differ_and_snapshots_of_other_rules_are_refused() -> None:
    train, test = Forkable(Dice, tasks=5), Forkable(Dice, tasks=5, split="test")
    assert not set(train.tasks) & set(test.tasks) and test.tasks[0] == "seed-2000000"
    train.reset(seed=0)
    for other in (test, Forkable(Dice, tasks=5, rules=ForkRules(max_turns=3)), Forkable(partial(Moody), tasks=5)):
        with pytest.raises(SnapshotError, match="another environment, tasks or rules"):
            other.restore(train.snapshot())
    with pytest.raises(SnapshotError, match="a snapshot is an Episode"):
        train.restore("here")  # type: ignore[arg-type]


@ways
def test_an_end_from_outside_is_restored_from_json(how: Literal["copy", "replay"]) -> None:
    env = Forkable(Dice, how, tasks=3)
    env.reset(seed=1)
    env.step("jump")
    assert env.end("length_limit")[1:4] == (0.0, False, True)
    stored = json.loads(json.dumps(env.snapshot().to_json()))
    other = Forkable(Dice, how, tasks=3)
    other.reset(options={"snapshot": stored})
    assert other.info() == env.info() and other.info()["reward"] == -0.125
    forged = env.snapshot().from_json(stored).parent
    assert forged is not None
    with pytest.raises(SnapshotError, match="ends in a way"):
        other.restore(forged.close("length_limit", 1.0, {"success": 1.0, "reward": 1.0, "turns": 0.0}))


def test_a_time_limit_of_gymnasium_ends_the_episode() -> None:
    env = Forkable(lambda: gymnasium.make("Dice-v0", disable_env_checker=True), tasks=3)
    env.reset(seed=1)
    *_, last = [env.step("wait") for _ in range(12)]
    assert last[2:4] == (False, True) and last[4]["ended"] == "truncated"


def test_turns_are_read_and_observations_written_by_the_rules() -> None:
    env = Forkable(
        Dice, tasks=3, rules=ForkRules(tag="do", as_messages=True, observation_open="", observation_close="")
    )
    assert env.reset(seed=1)[0].startswith("Act in the environment below.") and env.stop == ("</do>",)
    observation, reward, terminated, _, info = env.fork(1)[0].step("<do> roll </do>")
    assert observation.startswith("You roll") and not terminated and info["action"]["content"] == "roll"
    assert type(env.observation()) is tuple
    fork = env.fork(1)[0]
    fork.step("<do>roll</do>")
    assert type(fork.observation()) is UserMessage
    observation, reward, terminated, _, info = env.step("roll")
    assert (observation, reward, terminated, info["ended"]) == ("", 0.0, True, "malformed")
    assert info["action"]["why"] == "no complete <do>"


def test_episodes_that_are_played_at_the_same_time_do_not_disturb_each_other() -> None:
    env = Forkable(Dice, "replay", tasks=8)

    async def episode(task: str) -> list[str]:
        path = env.clone()
        path.reset(options={"task_id": task})
        return [(await path.astep("roll"))[0] for _ in range(2)]

    async def together() -> list[list[str]]:
        return await asyncio.gather(*map(episode, env.tasks))

    assert asyncio.run(together()) == [asyncio.run(episode(task)) for task in env.tasks]


def test_closing_closes_every_game() -> None:
    closed: list[int] = []

    class Closes(Dice):
        def close(self) -> None:
            closed.append(id(self))

    env = Forkable(Closes, tasks=3)
    env.reset(seed=0)
    env.snapshot()
    env.step("wait")
    env.close()
    assert len(closed) == len(set(closed)) >= 2 and env.live == 0
