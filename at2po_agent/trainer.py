"""The run loop: questions → trees → credit → update → evaluation → checkpoint, again until a limit is reached."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import Any

from at2po_agent import checkpoints
from at2po_agent.config import TrainConfig
from at2po_agent.credit import TurnCredit
from at2po_agent.evaluate import EvaluationStopped, evaluate
from at2po_agent.forest import rollout
from at2po_agent.groups import Rollout, draw_questions
from at2po_agent.metrics import engine_metrics, rollout_metrics, scores
from at2po_agent.outages import Outages
from at2po_agent.packing import Credited
from at2po_agent.policy.base import Policy, Sampling
from at2po_agent.policy.retokenised import Retokenised
from at2po_agent.report.display import Display
from at2po_agent.report.loggers import open_loggers
from at2po_agent.report.trees import tree_record
from at2po_agent.results import Result, Scores
from at2po_agent.run_dir import RunDirectory, RunDirError
from at2po_agent.session import Session, open_session
from at2po_agent.tree import TurnTree
from at2po_agent.update import Updater


def train(config: TrainConfig, run: RunDirectory, display: Display, stop: Event) -> Result:
    """Train until a limit of ``config.train`` is reached, or ``stop`` is set.

    A run directory that has a checkpoint is continued from it, bit for bit in deterministic mode. A checkpoint is
    always written at the end, also after ``stop``.

    Args:
        config: what to train, on what, and how.
        run: open; holds metrics, trees and checkpoints.
        display: told about every step.
        stop: set from a signal handler; the step under way is finished first, an evaluation is left at its next batch
            and made again when the run goes on.
    """
    with closing(open_session(config, run.path / "engine", display.note)) as session:
        trainer = _Trainer(config, run, display, stop, session)
        run.add_session(session.manifest())
        try:
            return trainer.run_to_end()
        finally:
            for logger in trainer.loggers:
                logger.close()


@dataclass
class _Position:
    """Where a run is: everything that decides the next step besides weights and optimiser."""

    step: int = 0
    drawn: int = 0  # questions, those of groups that were left out too: the place in their order
    seconds: float = 0.0  # of training: rollout, credit and update
    tokens: int = 0  # generated in training
    trees: int = 0
    dropped: int = 0
    before: dict[str, Any] | None = None  # the evaluation at the start
    tape: int | None = None  # bytes of the search tape, where there is one


class _Trainer:
    def __init__(self, config: TrainConfig, run: RunDirectory, display: Display, stop: Event, session: Session):
        self.config, self.run, self.display, self.stop, self.session = config, run, display, stop, session
        rollouts, update = config.rollout, config.update
        self.updater = Updater(
            session.model,
            session.algorithm.objective,
            update,
            temperature=rollouts.temperature,
            total_steps=config.train.steps * math.ceil(rollouts.questions / update.mini_batch) * update.epochs,
            reference=session.reference,
        )
        kept = rollouts.tokens == "exact"
        self.sampler: Policy = session.engine if kept else Retokenised(session.engine, session.codec)
        self.outages = Outages(display.note)
        self.at = _Position()
        self.saved: Path | None = None  # the last checkpoint, and the step it is of
        self.saved_step = -1
        self.questions = {question.id: question for question in session.env.questions}
        self.eval_questions = session.eval_env.questions[: config.eval.questions]
        self._resume()
        self.loggers = open_loggers(config, run.path, self.at.step + 1)

    def run_to_end(self) -> Result:
        """Train, then say what came of it."""
        config, at, after = self.config, self.at, None
        if at.step == 0 and at.before is None and config.eval.at_start:
            before = self._evaluate()
            at.before = asdict(before) if before else None
        elif at.step > 0 and self._evaluation_is_due() and not self.run.is_evaluated(at.step):
            self._evaluate()  # the run ended before it did
        while not self._is_over():
            self._step()
            if config.checkpoint.every and at.step % config.checkpoint.every == 0:
                self._save()
            if self._evaluation_is_due():
                self._evaluate()
        self._save()
        if config.eval.at_end and self._at_limit():
            after = self._evaluate()
        return Result(
            steps=at.step,
            seconds=at.seconds,
            generated_tokens=at.tokens,
            trees=at.trees,
            dropped=at.dropped,
            before=Scores(**{key: _tuples(value) for key, value in at.before.items()}) if at.before else None,
            after=after,
            checkpoint=self.saved,
            stopped=after is None and self.stop.is_set(),
        )

    def _is_over(self) -> bool:
        return self.stop.is_set() or self._at_limit()

    def _at_limit(self) -> bool:
        limits, at = self.config.train, self.at
        out_of_time = limits.max_seconds is not None and at.seconds >= limits.max_seconds
        out_of_tokens = limits.max_tokens is not None and at.tokens >= limits.max_tokens
        return at.step >= limits.steps or out_of_time or out_of_tokens

    def _evaluation_is_due(self) -> bool:
        every = self.config.eval.every
        return bool(every and self.at.step % every == 0 and not self._at_limit())

    def _step(self) -> None:
        """One rollout batch and the updates it allows."""
        config, at, session = self.config, self.at, self.session
        started = perf_counter()
        session.engine.clear_cache()  # of the weights before the update, and so that a resumed run computes the same
        before = asdict(session.engine.stats)
        grown = asyncio.run(session.algorithm.groups.collect(self._grow, config.rollout.questions))
        rollout_seconds = perf_counter() - started
        generated = grown.generated_tokens
        credited = self._credit(grown)
        metrics = rollout_metrics(grown, credited) | {"generated_tokens": generated}
        metrics |= engine_metrics(before, asdict(session.engine.stats))
        metrics |= {f"update_{name}": value for name, value in self._update(credited).items()}
        seconds = perf_counter() - started
        at.step, at.seconds, at.tokens = at.step + 1, at.seconds + seconds, at.tokens + generated
        at.drawn, at.trees = at.drawn + grown.questions, at.trees + len(grown.trees)
        at.dropped += len(grown.trees) - len(credited)
        every = config.log.trees_every
        if every and at.step % every == 0:
            self.run.save_trees(at.step, [self._tree_record(*one) for one in credited])
        timings = {"step": seconds, "rollout": rollout_seconds, "update": seconds - rollout_seconds}
        self._log(metrics, timings | {"tokens_per_second": generated / seconds})
        self.display.step(at.step, metrics | {"tokens_per_second": generated / seconds}, at.seconds, at.tokens)

    async def _grow(self, first: int) -> Rollout:
        """The trees of a batch of questions, from the ``first`` one of this step on."""
        config, session = self.config, self.session
        return await rollout(
            session.env,
            draw_questions(list(self.questions), config.seed, self.at.drawn + first, config.rollout.questions),
            self.sampler,
            session.codec,
            session.algorithm.expansion,
            sampling=Sampling(temperature=config.rollout.temperature),
            limits=session.limits,
            key=(config.seed, self.at.step),
            first=first,
            deterministic=config.deterministic,
            outages=self.outages,
        )

    def _credit(self, grown: Rollout) -> list[Credited]:
        """Prune what has no score, drop trees with fewer than two scored leaves, assign credit to the others."""
        credited, algorithm = [], self.session.algorithm
        for tree in grown.trees:
            tree.prune()
            if len(tree.leaves) >= 2:
                credited.append(Credited(tree, algorithm.credit(tree, algorithm.shaping(tree))))
        return credited

    def _update(self, credited: Sequence[Credited]) -> dict[str, float]:
        if not credited:
            self.display.note(f"step {self.at.step + 1}: no tree to learn from, nothing to update on")
            return {}
        self.session.engine.release()
        updated = self.updater.update(credited)
        self.session.engine.publish(self.session.model, self.at.step + 1)
        return updated

    def _tree_record(self, tree: TurnTree, advantages: Sequence[Sequence[float]]) -> dict[str, Any]:
        algorithm, question = self.session.algorithm, self.questions[tree.question_id]
        credit = algorithm.credit
        return tree_record(
            tree,
            question=question.question,
            answers=question.answers,
            advantages=advantages,
            values=list(credit.values(tree, algorithm.shaping(tree))) if isinstance(credit, TurnCredit) else None,
            decode=self.session.codec.decode_action,
        )

    def _log(self, metrics: dict[str, Any], timings: dict[str, float]) -> None:
        self.run.log(self.at.step, metrics, timings)
        numbers = {name: value for name, value in (metrics | timings).items() if value is not None}
        for logger in self.loggers:
            logger.log(self.at.step, numbers)

    def _evaluate(self) -> Scores | None:
        """Greedy EM on the held-out questions, shown and logged; None where there are none, or a stop came before."""
        if not self.eval_questions or self.stop.is_set():
            return None
        config, session, step = self.config, self.session, self.at.step
        started = perf_counter()
        session.engine.clear_cache()
        self.display.phase("evaluation", total=len(self.eval_questions))
        work = evaluate(
            session.eval_env,
            [question.id for question in self.eval_questions],
            session.engine,
            session.codec,
            limits=session.limits,
            batch=config.eval.batch,
            deterministic=config.deterministic,
            on_episode=lambda episode: self.display.advance(),
            outages=self.outages,
            stop=self.stop.is_set,
        )
        try:
            evaluation = asyncio.run(work)
        except EvaluationStopped:
            self.display.end_phase()
            self.display.note(f"the evaluation after step {step} was left; it is made when the run goes on")
            return None
        data = session.eval_env.dataset
        found = scores(step, evaluation, self.eval_questions, f"{data.name} {data.split}")
        means = self.run.log_evaluation(step, found, perf_counter() - started)
        for logger in self.loggers:
            logger.log(step, means)
        self.display.evaluation(found)
        return found

    def _save(self) -> None:
        if self.saved_step == self.at.step:
            return
        self.at.tape = self.session.tape_position()
        self.saved = checkpoints.save(
            self.run.checkpoints,
            step=self.at.step,
            model=self.session.model,
            tokenizer=self.session.codec.tokenizer,
            updater=self.updater,
            position=asdict(self.at),
            keep=self.config.checkpoint.keep,
        )
        self.saved_step = self.at.step

    def _resume(self) -> None:
        found = checkpoints.latest(self.run.checkpoints, self.display.note)
        if found is None:
            if self.run.resumed:  # stopped before its first checkpoint: from the start
                self.run.rewind(-1)
            return
        self.at = _Position(**found.position)
        _check_tape(self.at.tape, self.session.tape_position(), found.path)
        found.restore(self.session.model, self.updater)
        self.session.engine.publish(self.session.model, self.at.step)
        self.run.rewind(self.at.step)
        self.saved, self.saved_step = found.path, self.at.step
        self.display.note(f"going on from step {self.at.step} ({found.path})")


def _check_tape(needed: int | None, here: int | None, checkpoint: Path) -> None:
    """A run goes on with the search results that it was trained on, or not at all."""
    if needed is not None and (here is None or here < needed):
        raise RunDirError(
            f"{checkpoint} was written with {needed} bytes of search results on its tape, and the tape has {here or 0} "
            "now: put the tape back that env.kwargs.search names"
        )


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
