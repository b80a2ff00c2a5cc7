"""Processes as rollout workers: each grows its share, all have all trees.

Processes are threads here, and real ones where they share an SGLang server, which is doubled at the transport.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from at2po_agent.method.algorithms import build
from at2po_agent.method.groups import Rollout, draw_questions
from at2po_agent.policy.base import Stats
from at2po_agent.policy.engine import EngineConfig
from at2po_agent.policy.retokenised import Retokenised
from at2po_agent.policy.sglang.admin import SglangAdmin
from at2po_agent.policy.sglang.engine import SGLangEngine
from at2po_agent.policy.sglang.launch import RunningServers
from at2po_agent.policy.sglang.publisher import Publisher
from at2po_agent.policy.sglang.weight_sync import DiskSync
from at2po_agent.rollouts.grow import Actor, Limits
from at2po_agent.tasks import run
from at2po_agent.training.config import TrainConfig, load_config
from at2po_agent.training.recorder import Recorder
from at2po_agent.training.session import Session
from at2po_agent.training.workers import RolloutWorkers
from at2po_agent.update.processes import ONE, EndedElsewhere, Processes
from at2po_env.state import Segment
from tests.helpers.gloo import outcomes
from tests.helpers.sglang_control import Controlled
from tests.helpers.sglang_double import serving
from tests.helpers.threads import in_threads
from tests.helpers.tiny_models import CODEC, tiny
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
    found = workers().grow(step=0, drawn=7).rollout
    ids = draw_questions(TASKS, 3, 7, 5)
    assert [tree.question_id for tree in found.trees] == ids and found.questions == 5
    assert grown(workers().grow(0, 7).rollout) == grown(found)
    assert grown(workers().grow(1, 7).rollout) != grown(found)  # a later step samples other turns


def test_the_trees_of_two_processes_are_those_of_one_and_all_have_them() -> None:
    alone = grown(workers().grow(2, 0).rollout)
    engines = {}

    def work(processes: Processes) -> Rollout:
        one = workers(processes)
        engines[processes.rank] = one.session.engine
        return one.grow(2, 0).rollout

    assert list(map(grown, in_threads(work))) == [alone, alone]
    trees = {rank: {request.key[2] for request, _ in engine.completions} for rank, engine in engines.items()}
    assert trees == {0: {0, 1}, 1: {2, 3, 4}}


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
        return workers(processes, env=env).grow(0, 0).rollout

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


class Player(Controlled):
    """A server that plays ``ToyEnv``: which of three turns comes next depends on the prompt alone."""

    def answer(self, body: dict[str, Any], **meta: Any) -> dict[str, Any]:
        prompt = body["input_ids"]
        if body["sampling_params"]["max_new_tokens"] == 1:
            return super().answer(body, **meta)  # a check of the model
        ids = CODEC.observation((Segment(("s1!", "ab!", "a!")[sum(prompt) % 3], data=False),))
        told = {
            "finish_reason": {"type": "stop", "matched": "!"},
            "cached_tokens": 0,
            "weight_version": self.version,
            "output_token_logprobs": [[-1.0, i, None] for i in ids],
        }
        return {"output_ids": ids, "text": "", "meta_info": told | meta}


@contextmanager
def on_a_server(processes: Processes, env: Env | None = None) -> Iterator[tuple[RolloutWorkers, Player | None, str]]:
    """This process's workers on a server that the first one has; that, where it is here, and its URL."""
    model = tiny()
    with ExitStack() as stack:
        player = stack.enter_context(serving(Player(model))) if processes.leads else None
        url: str = processes.lead(lambda: player.url if player else "")
        publisher = None
        if processes.leads:
            sync = DiskSync(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            publisher = Publisher(RunningServers([url]), model, sync, EngineConfig(kind="sglang"))
        engine = SGLangEngine(model, CODEC, publisher, lead=processes.lead)
        stack.callback(engine.close)
        one = workers(processes, "engine.kind=sglang", "deterministic=false", env=env)
        limits = Limits(max_turn_tokens=8, max_context_tokens=200, retries=0)
        actor = Actor(engine, CODEC, limits=limits, deterministic=False)
        one.session = replace(one.session, engine=engine, codec=CODEC, actor=actor)
        one.sampler = actor
        yield one, player, url


def together_play(processes: Processes) -> Any:
    """Called in two joined processes, as are the others below."""
    with on_a_server(processes) as (one, player, _):
        one.session.engine.clear_cache()
        trees = [
            [tree.question_id, sorted(leaf.reward for leaf in map(tree.__getitem__, tree.leaves))]
            for tree in one.grow(2, 7).rollout.trees
        ]
        evaluation = one.evaluate(TASKS[:7], Event())
        assert evaluation is not None
        own, total = one.session.engine.stats.generated_tokens, one.engine_stats()["generated_tokens"]
        asked = sum(len(player.answer(body)["output_ids"]) for body in player.turns) if player else None
        return [trees, [episode.question_id for episode in evaluation.episodes], own, total, asked]


def together_beside(processes: Processes) -> Any:
    with on_a_server(processes) as (one, _, _):
        growing = one.begin(2, 7)
        met = [processes.gather(n) for n in range(50)]  # as in an update
        batch = one.finish(growing)
        assert met == [[n] * 2 for n in range(50)] and 0 <= batch.waited <= batch.seconds + 0.1
        return [tree.question_id for tree in batch.rollout.trees]


def together_publish(processes: Processes) -> Any:
    with on_a_server(processes) as (one, player, url):
        if player:
            player.refuse["/pause_generation"] = 503  # the first try: a second later it takes the weights
        one.session.engine.publish(tiny(), 4)
        label = SglangAdmin(url).weight_version()
        processes.gather("both have looked")
        return [one.session.engine.version, label.partition("-")[2]]


def together_refused(processes: Processes) -> Any:
    with on_a_server(processes) as (one, player, _):
        if player:
            player.refuse["/update_weights_from_disk"] = 400
        one.session.engine.publish(tiny(), 4)


def together_killed(processes: Processes) -> Any:
    def kill(action: str) -> bool:
        os.kill(os.getpid(), signal.SIGKILL)
        return True

    with on_a_server(processes, Env(fail=kill) if processes.rank == 1 else None) as (one, _, _):
        one.grow(0, 0)


@pytest.fixture(scope="module")
def real() -> dict[str, list[Any]]:
    return outcomes(
        __name__, "together_play", "together_beside", "together_publish", "together_refused", "together_killed"
    )


def test_every_question_is_played_once_by_one_of_the_processes_that_share_a_server(real: dict[str, list[Any]]) -> None:
    (trees, episodes, own, total, asked), (others, same, theirs, again, _) = real["together_play"]
    assert [question for question, _ in trees] == draw_questions(TASKS, 3, 7, 5)
    assert all(len(rewards) == 3 for _, rewards in trees)
    assert episodes == list(TASKS[:7])
    assert (others, same, again) == (trees, episodes, total)
    assert own > 0 < theirs and own + theirs == total == asked


def test_processes_exchange_trees_beside_what_they_exchange_otherwise(real: dict[str, list[Any]]) -> None:
    assert real["together_beside"] == [draw_questions(TASKS, 3, 7, 5)] * 2


def test_no_process_samples_before_the_servers_have_the_new_weights(real: dict[str, list[Any]]) -> None:
    assert real["together_publish"] == [[4, "4"]] * 2


def test_weights_that_a_server_refuses_end_all_with_one_word(real: dict[str, list[Any]]) -> None:
    first, second = real["together_refused"]
    assert first.startswith("PolicyError: ") and "not now" in first and second.startswith("EndedElsewhere")


def test_a_process_that_is_killed_in_a_rollout_is_named(real: dict[str, list[Any]]) -> None:
    first, killed = real["together_killed"]
    assert killed is None
    assert re.match(r"ProcessLost: another process of the run is gone, rank 1 \(PID \d+ on .*--resume$", first)
