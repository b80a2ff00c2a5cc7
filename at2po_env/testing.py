"""The fork-isolation contract, as a test class to inherit for any :class:`~at2po_env.core.ForkableEnv`.

.. code-block:: python

    class TestMyEnv(ForkContract):
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
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from gymnasium.wrappers import OrderEnforcing, TimeLimit

from at2po_env.core import ForkableEnv, StepResult

SEED = 7


class ForkContract(ABC):
    """What every forkable environment must keep. The tests need an environment that is a function of its seed."""

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


def _play(env: ForkableEnv[Any], actions: Iterable[str]) -> list[StepResult]:
    return [env.step(action) for action in actions]
