"""The contract must hold for an honest environment that is not ours, and fail for each way of cheating."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import pytest

from at2po_env.core import ForkableEnv, StepResult
from at2po_env.spaces import UnicodeText
from at2po_env.state import Segment, Text
from at2po_env.testing import ForkContract


class Diary(ForkableEnv[tuple[str, ...]]):
    """Writes down every action under a random title."""

    action_space = UnicodeText()
    observation_space = UnicodeText()

    def __init__(self) -> None:
        self.lines: list[str] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        gymnasium.Env.reset(self, seed=seed)
        self.lines = [f"title {self.np_random.integers(10**9)}"]
        if options:
            self.restore(options["snapshot"])
        return self.lines[-1], {}

    def step(self, action: str) -> StepResult:
        self.lines.append(action)
        return action, float(len(self.lines)), action == "end", False, {"lines": list(self.lines)}

    def snapshot(self) -> tuple[str, ...]:
        return tuple(self.lines)

    def restore(self, snapshot: tuple[str, ...]) -> None:
        self.lines = list(snapshot)

    def clone(self) -> Diary:
        return type(self)()

    def observation(self) -> Text:
        return (Segment(self.lines[-1], True),)

    def end(self, reason: str) -> StepResult:
        self.lines.append(f"ended: {reason}")
        return "", 0.0, False, True, {}


class DiaryContract(ForkContract):
    kind: type[Diary] = Diary

    def make_env(self) -> Diary:
        return self.kind()

    def actions(self) -> list[str]:
        return ["a", "b", "end"]

    def other_actions(self) -> list[str]:
        return ["c", "end"]


class TestDiary(DiaryContract):
    pass


class SharesItsState(Diary):
    def clone(self) -> Diary:
        twin = copy.copy(self)
        twin.restore = lambda snapshot: None  # type: ignore[method-assign]
        return twin


class ClonesItself(Diary):
    def clone(self) -> Diary:
        return self


class ForgetsTheGenerator(Diary):
    def fork(self, n: int) -> list[Any]:
        forks = [self.clone() for _ in range(n)]
        for fork in forks:
            fork.restore(self.snapshot())
        return forks


class LivingList(list):  # type: ignore[type-arg]
    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))


class GivesItsStateAway(Diary):
    def snapshot(self) -> Any:
        self.lines = LivingList(self.lines) if not isinstance(self.lines, LivingList) else self.lines
        return self.lines


class RestoresHalf(Diary):
    def restore(self, snapshot: tuple[str, ...]) -> None:
        self.lines = list(snapshot[:1])


class OtherAsyncStep(Diary):
    async def astep(self, action: str) -> StepResult:
        return self.step(action.upper())


class TerminatesAtTheLimit(Diary):
    def end(self, reason: str) -> StepResult:
        return "", 0.0, True, False, {}


class IgnoresTheSnapshotOption(Diary):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        return super().reset(seed=seed)


CHEATS = [
    (SharesItsState, "test_what_a_fork_does_is_not_seen_by_the_others"),
    (ClonesItself, "test_a_clone_has_no_episode_of_its_own"),
    (ForgetsTheGenerator, "test_forks_draw_the_same_next_episode_and_do_not_share_the_generator"),
    (ForgetsTheGenerator, "test_a_fork_into_nothing_is_an_error"),
    (GivesItsStateAway, "test_a_snapshot_does_not_change_when_its_episode_goes_on"),
    (RestoresHalf, "test_restore_continues_exactly_as_the_episode_it_was_taken_from"),
    (RestoresHalf, "test_every_fork_continues_as_the_original"),
    (RestoresHalf, "test_a_pickled_or_copied_snapshot_restores_in_a_new_environment"),
    (OtherAsyncStep, "test_asynchronous_steps_are_the_same_steps"),
    (TerminatesAtTheLimit, "test_ending_from_outside_truncates"),
    (IgnoresTheSnapshotOption, "test_reset_restores_a_snapshot_through_wrappers"),
]


@pytest.mark.parametrize(("kind", "test"), CHEATS, ids=lambda value: getattr(value, "__name__", value))
def test_the_contract_catches(kind, test):
    contract = DiaryContract()
    contract.kind = kind
    with pytest.raises(AssertionError):
        getattr(contract, test)()
