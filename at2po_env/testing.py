"""The contracts of environments, as test classes to inherit: ``ForkContract`` and, over tasks, ``TaskContract``.

.. code-block:: python

    class TestMyEnv(TaskContract):
        def make_env(self):
            return MyEnv(...)

        def actions(self):
            return ["<search>x</search>", "<search>y</search>", "<answer>z</answer>"]

        def other_actions(self):
            return ["<search>something else</search>", "<answer>w</answer>"]
"""

# ruff: noqa: D102 - the tests' names say what they check
from __future__ import annotations

import asyncio
import copy
import json
import math
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from gymnasium.wrappers import OrderEnforcing, TimeLimit

from at2po_env.core import ForkableEnv, StepResult
from at2po_env.errors import SnapshotError
from at2po_env.state import ToolMessage, UserMessage, plain
from at2po_env.tasks import TaskEnv

SEED = 7


class ForkContract(ABC):
    """The contract of forkable environments, as tests. The environment must be a function of its seed."""

    @abstractmethod
    def make_env(self) -> ForkableEnv[Any]:
        """A new environment, not yet reset. Every call gives an equal one."""

    @abstractmethod
    def actions(self) -> list[str]:
        """Two or more actions that can be taken after ``reset(seed=7)``; none but the last one ends the episode."""

    @abstractmethod
    def other_actions(self) -> list[str]:
        """Actions of another future, which differs from :meth:`actions` at the first one already."""

    def test_restore_continues_exactly_as_the_episode_it_was_taken_from(self) -> None:
        env = self._reset()
        for taken in range(len(self.actions())):
            _play(env, self.actions()[:taken])
            snapshot, expected = env.snapshot(), _play(env, self.actions()[taken:])
            env.restore(snapshot)
            assert env.snapshot() == snapshot
            assert _play(env, self.actions()[taken:]) == expected
            env.reset(seed=SEED)

    def test_every_fork_continues_as_the_original(self) -> None:
        env = self._reset()
        first = self.actions()[:1]
        _play(env, first)
        forks = env.fork(2)
        futures = [_play(each, self.actions()[1:]) for each in (*forks, env)]
        assert futures[0] == futures[1] == futures[2]

    def test_forks_draw_the_same_next_episode_and_do_not_share_the_generator(self) -> None:
        env = self._reset()
        one, two = env.fork(2)
        drawn = [one.reset()[0] for _ in range(8)]
        assert [two.reset()[0] for _ in range(8)] == drawn
        assert [env.reset()[0] for _ in range(8)] == drawn

    def test_what_a_fork_does_is_not_seen_by_the_others(self) -> None:
        env = self._reset()
        expected = _play(self._reset(), self.actions())
        before = env.snapshot()
        busy, idle = env.fork(2)
        assert _play(busy, self.other_actions())[0] != expected[0], "the two futures must differ at the first action"
        assert busy.snapshot() != before
        assert idle.snapshot() == env.snapshot() == before
        assert _play(idle, self.actions()) == _play(env, self.actions()) == expected

    def test_a_snapshot_does_not_change_when_its_episode_goes_on(self) -> None:
        env = self._reset()
        snapshot = env.snapshot()
        frozen, key = pickle.dumps(snapshot), hash(snapshot)
        _play(env, self.actions())
        assert pickle.dumps(snapshot) == frozen
        assert hash(snapshot) == key
        assert env.snapshot() != snapshot

    def test_snapshots_are_addressed_by_content(self) -> None:
        one, two = self._reset(), self._reset()
        for action in self.actions():
            assert one.snapshot() == two.snapshot()
            assert hash(one.snapshot()) == hash(two.snapshot())
            one.step(action)
            assert one.snapshot() != two.snapshot()
            two.step(action)

    def test_a_pickled_or_copied_snapshot_restores_in_a_new_environment(self) -> None:
        env = self._reset()
        _play(env, self.actions()[:1])
        snapshot = env.snapshot()
        expected = _play(env, self.actions()[1:])
        for moved in (pickle.loads(pickle.dumps(snapshot)), copy.deepcopy(snapshot)):
            assert moved == snapshot
            other = self.make_env()
            other.restore(moved)
            assert _play(other, self.actions()[1:]) == expected

    def test_reset_restores_a_snapshot_through_wrappers(self) -> None:
        env = self._reset()
        _play(env, self.actions()[:1])
        snapshot, seen = env.snapshot(), env.observation()
        expected = _play(env, self.actions()[1:])
        wrapped = TimeLimit(OrderEnforcing(self.make_env()), max_episode_steps=len(self.actions()))
        observation, _ = wrapped.reset(options={"snapshot": snapshot})
        assert observation == "".join(segment.text for segment in seen)
        assert [wrapped.step(action) for action in self.actions()[1:]] == expected

    def test_a_clone_has_no_episode_of_its_own(self) -> None:
        env = self._reset()
        before = env.snapshot()
        clone = env.clone()
        clone.reset(seed=SEED)
        _play(clone, self.other_actions())
        assert env.snapshot() == before

    def test_asynchronous_steps_are_the_same_steps(self) -> None:
        async def play(env: ForkableEnv[Any]) -> list[StepResult]:
            return [await env.astep(action) for action in self.actions()]

        assert asyncio.run(play(self._reset())) == _play(self._reset(), self.actions())

    def test_ending_from_outside_truncates(self) -> None:
        env = self._reset()
        _play(env, self.actions()[:1])
        here = env.snapshot()
        _, _, terminated, truncated, _ = env.end("length_limit")
        assert truncated and not terminated
        assert env.snapshot() != here
        env.restore(here)
        assert env.snapshot() == here

    def test_a_fork_into_nothing_is_an_error(self) -> None:
        env = self._reset()
        try:
            env.fork(0)
        except ValueError:
            return
        raise AssertionError("fork(0) must raise ValueError")

    def _reset(self) -> ForkableEnv[Any]:
        env = self.make_env()
        env.reset(seed=SEED)
        return env


class TaskContract(ForkContract):
    """The contract of environments over tasks, as tests; the last of :meth:`actions` ends the episode."""

    @abstractmethod
    def make_env(self) -> TaskEnv[Any]:
        """A new environment, not yet reset. Every call gives an equal one."""

    def _reset(self) -> TaskEnv[Any]:
        env = self.make_env()
        env.reset(seed=SEED)
        return env

    def test_every_task_begins_by_its_id_and_says_what_it_is(self) -> None:
        env = self.make_env()
        assert len(set(env.tasks)) == len(env.tasks) > 0
        for task_id in env.tasks[:20]:
            observation, info = env.reset(options={"task_id": task_id})
            task = env.task(task_id)
            assert info["task_id"] == task.id == task_id and task.text and "ended" not in info
            assert observation == plain(env.observation()) != ""

    def test_a_task_that_there_is_not_is_a_key_error(self) -> None:
        for act in (self.make_env().begin, self.make_env().task):
            try:
                act("no such task")
            except KeyError:
                continue
            raise AssertionError("an unknown task id must raise KeyError")

    def test_an_episode_ends_with_a_reason_and_its_metrics(self) -> None:
        env = self._reset()
        *_, (_, _, terminated, truncated, info) = _play(env, self.actions())
        assert (terminated or truncated) and isinstance(info["ended"], str) and info["ended"]
        assert env.metrics
        for metric in env.metrics:
            value = float(info[metric.name])
            assert value in (0.0, 1.0) if metric.share else math.isfinite(value)
        assert json.loads(json.dumps(info, allow_nan=False)) == info

    def test_an_episode_that_is_ended_from_outside_has_metrics_too(self) -> None:
        env = self._reset()
        _, _, _, _, info = env.end("length_limit")
        assert info["ended"] == "length_limit" and all(metric.name in info for metric in env.metrics)

    def test_snapshots_go_through_json(self) -> None:
        env = self._reset()
        for taken, action in enumerate(self.actions()):
            stored = json.loads(json.dumps(env.snapshot().to_json(), allow_nan=False))
            other = self.make_env()
            assert other.read_snapshot(stored) == env.snapshot()
            other.reset(options={"snapshot": stored})
            assert _play(other, self.actions()[taken:]) == _play(env.fork(1)[0], self.actions()[taken:])
            env.step(action)

    def test_a_changed_snapshot_is_refused_or_changes_nothing(self) -> None:
        env = self._reset()
        _play(env, self.actions())
        stored, ended = json.loads(json.dumps(env.snapshot().to_json())), env.info()
        for changed in _changes(stored):
            other = self.make_env()
            try:
                other.reset(options={"snapshot": changed})
            except SnapshotError:
                continue
            assert other.info() == ended, f"a snapshot was changed and taken: {changed}"

    def test_the_transcript_has_every_turn(self) -> None:
        env = self._reset()
        seen = [step[0] for step in _play(env, self.actions())]
        turns = env.transcript(env.snapshot())
        assert [turn.text for turn in turns] == self.actions()
        assert [plain(turn.observation) for turn in turns] == seen
        assert json.dumps([dict(turn.action) for turn in turns], allow_nan=False)

    def test_what_a_chat_endpoint_reads_comes_as_messages(self) -> None:
        env = self._reset()
        for action in self.actions() if env.chat is not None else ():
            env.step(action)
            if "ended" not in env.info():
                assert isinstance(env.observation(), UserMessage | ToolMessage)

    def test_limits_are_json_and_bounds_hold(self) -> None:
        env = self._reset()
        assert json.loads(json.dumps(dict(env.limits), allow_nan=False)) == dict(env.limits)
        turns = [env.step(action)[0] for action in self.actions()]
        if env.bounds is not None:
            assert len(turns) <= env.bounds.turns
            assert all(len(observation.encode()) <= env.bounds.observation for observation in turns)

    def test_the_manifest_is_json_and_says_which_tasks_these_are(self) -> None:
        one, two = self.make_env().manifest(), self.make_env().manifest()
        assert json.loads(json.dumps(one, allow_nan=False)) == one == two
        assert one["dataset"]["questions"] == len(self.make_env().tasks)
        assert {"name", "split", "digest"} <= one["dataset"].keys()


def _changes(value: Any) -> Iterator[Any]:
    """The JSON value with one of its parts changed, for every part."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from ({**value, key: changed} for changed in _changes(part))
    elif isinstance(value, list):
        for at, part in enumerate(value):
            yield from ([*value[:at], changed, *value[at + 1 :]] for changed in _changes(part))
        yield value[:-1] if value else [1]
    elif isinstance(value, bool) or value is None:
        yield "changed"
    elif isinstance(value, int | float):
        yield from (value + 1, str(value))
    else:
        yield f"{value}!"


def _play(env: ForkableEnv[Any], actions: Iterable[str]) -> list[StepResult]:
    return [env.step(action) for action in actions]
