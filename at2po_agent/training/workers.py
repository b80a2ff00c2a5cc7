"""The processes of a run as rollout workers: each grows the trees of its share of questions, and all get all trees."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from threading import Event
from time import perf_counter

from at2po_agent.method.groups import Rollout, draw_questions
from at2po_agent.rollouts.batch import rollout
from at2po_agent.rollouts.evaluate import Evaluation, EvaluationStopped, evaluate
from at2po_agent.training.batches import Batch
from at2po_agent.training.config import TrainConfig
from at2po_agent.training.metrics import engine_metrics
from at2po_agent.training.recorder import Recorder
from at2po_agent.training.session import Session
from at2po_agent.training.watch import check_rewards
from at2po_agent.update.processes import Processes

Growing = asyncio.Task[Batch]  # trees that are being grown


class RolloutWorkers:
    """All of them, seen from one; every process calls the same methods with the same arguments."""

    def __init__(self, config: TrainConfig, session: Session, processes: Processes, recorder: Recorder) -> None:
        self.config, self.session, self.recorder = config, session, recorder
        # A rollout may run beside an update, in which the processes exchange values too.
        self.processes = processes.beside()
        self.sampler = session.sampler(config.rollout)

    def grow(self, step: int, drawn: int) -> Batch:
        """The trees of one training step.

        Args:
            step: steps done before, which with the seed decides every sampled token.
            drawn: questions drawn before: the place in their order.

        Raises:
            TrainingError: a reward is not finite.
        """
        batch = self.session.engine.run(self._grow(step, drawn))
        return replace(batch, waited=batch.seconds)

    def begin(self, step: int, drawn: int) -> Growing:
        """Begin to ``grow`` on the engine's own event loop, and return at once; ``finish`` waits for the trees.

        Nothing else may be sampled and no weights be published until then. Where the engine is closed before, the
        sampling is cancelled.
        """

        async def begun() -> Growing:
            return asyncio.create_task(self._grow(step, drawn))

        return self.session.engine.run(begun())

    def finish(self, growing: Growing) -> Batch:
        """Wait for the trees that ``begin`` began.

        Raises:
            TrainingError: a reward is not finite.
        """

        async def ended() -> Batch:
            return await growing

        started = perf_counter()
        batch = self.session.engine.run(ended())
        return replace(batch, waited=perf_counter() - started)

    async def _grow(self, step: int, drawn: int) -> Batch:
        async def grow_more(first: int) -> Rollout:
            grown = Rollout.of(await self.processes.together(self._grow_share(step, drawn, first)))
            # Before groups compare rewards; in every process, as each has all trees.
            check_rewards(grown.trees, self.session.env)
            return grown

        started, before = perf_counter(), self.engine_stats()
        collected = await self.session.algorithm.groups.collect(grow_more, self.config.rollout.questions)
        metrics = engine_metrics(before, self.engine_stats())
        return Batch(collected, metrics, seconds=perf_counter() - started)

    def engine_stats(self) -> dict[str, int]:
        """Token counts of the engines of all processes."""
        stats = self.processes.gather(asdict(self.session.engine.stats))
        return {name: sum(part.get(name, 0) for part in stats) for name in stats[0]}

    async def _grow_share(self, step: int, drawn: int, first: int) -> Rollout:
        """This process's trees of a batch of questions, from the ``first`` one of the step on."""
        config, session = self.config, self.session
        questions = draw_questions(session.env.tasks, config.seed, drawn + first, config.rollout.questions)
        share = self.processes.share(len(questions))
        return await rollout(
            session.env,
            questions[share],
            self.sampler,
            session.algorithm.expansion,
            key=(config.seed, step),
            first=first + share.start,
        )

    def evaluate(self, tasks: Sequence[str], stop: Event) -> Evaluation | None:
        """Greedy episodes on held-out tasks; None where ``stop`` was set before the end in any process."""
        parts = self.session.engine.run(self.processes.together(self._evaluate_share(tasks, stop)))
        finished = [part for part in parts if part is not None]
        return Evaluation.of(finished) if len(finished) == len(parts) else None

    async def _evaluate_share(self, tasks: Sequence[str], stop: Event) -> Evaluation | None:
        config, session = self.config, self.session
        share = self.processes.share(len(tasks))
        ids = tasks[share]
        self.recorder.evaluating(len(ids))
        try:
            return await evaluate(
                session.eval_env,
                ids,
                session.actor.greedy(),
                batch=config.eval.batch,
                on_episode=lambda episode: self.recorder.evaluated(),
                stop=stop.is_set,
            )
        except EvaluationStopped:
            return None
