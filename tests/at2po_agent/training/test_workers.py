"""Processes as rollout workers: each grows its share, all have all trees. Processes are threads here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from at2po_agent.method.algorithms import build
from at2po_agent.method.groups import Rollout, draw_questions
from at2po_agent.policy.base import Stats
from at2po_agent.policy.retokenised import Retokenised
from at2po_agent.rollouts.grow import Actor, Limits
from at2po_agent.tasks import run
from at2po_agent.training.config import TrainConfig, load_config
from at2po_agent.training.recorder import Recorder
from at2po_agent.training.session import Session
from at2po_agent.training.workers import RolloutWorkers
from at2po_agent.update.processes import ONE, EndedElsewhere, Processes
from tests.helpers.threads import in_threads
from tests.helpers.toys import Bytes, Scripted, ToyEnv

TASKS = tuple(f"q{i}" for i in range(9))
SMALL = ["policy.path=p", "env.id=Toy-v0", "rollout.questions=5", "eval.batch=2", "seed=3"]


class Engine(Scripted):
    """Counts what it samples, as every engine does."""

    run = staticmethod(run)

    @property
    def stats(self) -> Stats:
        return Stats(generated_tokens=sum(len(completion.ids) for _, completion in self.completions))


class Env(ToyEnv):
    tasks = TASKS
    metrics = ()


def workers(
    processes: Processes = ONE, *overrides: str, recorder: Recorder | None = None, env: Env | None = None
) -> RolloutWorkers:
    engine = Engine()
    config: TrainConfig = load_config(None, [*SMALL, *overrides])
    session: Any = Session(
        env=env or Env(),  # type: ignore[arg-type]
        eval_env=env or Env(),  # type: ignore[arg-type]
        model=None,  # type: ignore[arg-type]
        codec=Bytes(),  # type: ignore[arg-type]
        engine=engine,  # type: ignore[arg-type]
        algorithm=build("grpo", expansion={"n": 3}),
        actor=Actor(engine, Bytes(), limits=Limits(retries=0), deterministic=config.deterministic),
        reference=None,
        device=None,  # type: ignore[arg-type]
    )
    return RolloutWorkers(config, session, processes, recorder or Recorder(Path()))


def grown(rollout: Rollout | Exception) -> list[Any]:
    assert isinstance(rollout, Rollout), rollout
    return [tree.to_json() for tree in rollout.trees]


def test_a_step_has_the_trees_of_the_questions_that_are_next() -> None:
    found = workers().grow(step=0, drawn=7)
    ids = draw_questions(TASKS, 3, 7, 5)
    assert [tree.question_id for tree in found.trees] == ids and found.questions == 5
    assert grown(workers().grow(0, 7)) == grown(found)
    assert grown(workers().grow(1, 7)) != grown(found)  # a later step samples other turns


def test_the_trees_of_two_processes_are_those_of_one_and_all_have_them() -> None:
    alone = grown(workers().grow(2, 0))
    engines = {}

    def work(processes: Processes) -> Rollout:
        one = workers(processes)
        engines[processes.rank] = one.session.engine
        return one.grow(2, 0)

    assert list(map(grown, in_threads(work))) == [alone, alone]
    trees = {rank: {request.key[2] for request, _ in engine.completions} for rank, engine in engines.items()}
    assert trees == {0: {0, 1}, 1: {2, 3, 4}}


def test_where_one_engine_serves_all_the_first_process_asks_for_all() -> None:
    def work(processes: Processes) -> tuple[list[Any], dict[str, int], int]:
        one = workers(processes, "engine.kind=sglang", "deterministic=false")
        trees = grown(one.grow(2, 0))
        return trees, one.engine_stats(), len(one.session.engine.completions)

    (trees, stats, asked), (others, same, nothing) = in_threads(work)
    assert trees == others and asked > 0 == nothing
    assert stats == same and stats["generated_tokens"] > 0


def test_re_encoded_histories_are_read_where_that_is_configured() -> None:
    assert isinstance(workers(ONE, "rollout.tokens=retokenise").sampler.policy, Retokenised)
    exact = workers()
    assert exact.sampler.policy is exact.session.engine


class Counting(Recorder):
    """Counts the episodes of an evaluation."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.begun: list[int] = []
        self.done = 0

    def evaluating(self, questions: int) -> None:
        self.begun.append(questions)

    def evaluated(self) -> None:
        self.done += 1


def evaluated(stop: Callable[[Processes], bool] = lambda processes: False) -> list[Any]:
    """An evaluation by two processes with a recorder each."""

    def work(processes: Processes) -> tuple[Any, Counting]:
        class Asked(Event):
            def is_set(self) -> bool:
                return stop(processes)

        recorder = Counting()
        return workers(processes, recorder=recorder).evaluate(TASKS[:7], Asked()), recorder

    return in_threads(work)


def test_an_evaluation_is_shared_and_every_process_has_all_of_it() -> None:
    (first, one), (second, other) = evaluated()
    assert first == second
    assert [episode.question_id for episode in first.episodes] == [f"q{i}" for i in range(7)]
    assert (one.begun, one.done, other.begun, other.done) == ([3], 3, [4], 4)


def test_a_stop_in_one_process_leaves_the_evaluation_in_all() -> None:
    (first, _), (second, _) = evaluated(lambda processes: processes.rank == 1)
    assert first is None and second is None


def test_an_error_in_one_process_ends_the_step_in_all() -> None:
    def broken(action: str) -> bool:
        raise ZeroDivisionError

    def work(processes: Processes) -> Rollout:
        env = Env(fail=broken) if processes.rank == 1 else Env()
        return workers(processes, env=env).grow(0, 0)

    first, second = in_threads(work)
    assert isinstance(first, EndedElsewhere) and isinstance(second, ZeroDivisionError)


@pytest.mark.parametrize("count", [1, 3])
def test_token_counts_are_summed_over_the_processes(count: int) -> None:
    def work(processes: Processes) -> tuple[int, int]:
        one = workers(processes)
        one.grow(0, 0)
        return one.engine_stats()["generated_tokens"], one.session.engine.stats.generated_tokens

    found = in_threads(work, count)
    assert {total for total, _ in found} == {sum(own for _, own in found)}
