"""The run loop: questions → trees → credit → update → evaluation → checkpoint, again until a limit is reached."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event
from time import perf_counter, process_time
from typing import Any

from pydantic import ConfigDict
from rich.console import Console

from at2po_agent.atomic_files import plain_json
from at2po_agent.method.algorithms import Algorithm, AlgorithmConfig
from at2po_agent.method.credit import TurnCredit
from at2po_agent.method.groups import Rollout
from at2po_agent.method.tree import TurnTree
from at2po_agent.settings import ConfigError
from at2po_agent.training import checkpoints
from at2po_agent.training.batches import Batch, step_timings
from at2po_agent.training.collapse import CollapseWatch
from at2po_agent.training.config import Spent, TrainConfig
from at2po_agent.training.display import Display
from at2po_agent.training.metrics import Result, Scores, rollout_metrics, scores
from at2po_agent.training.recorder import Recorder, RunRecorder
from at2po_agent.training.run_dir import RunDirectory, RunDirError
from at2po_agent.training.session import Session, open_session
from at2po_agent.training.stored_files import Count, Number, fitting
from at2po_agent.training.stored_trees import tree_record
from at2po_agent.training.watch import SkippedUpdates
from at2po_agent.training.workers import Growing, RolloutWorkers
from at2po_agent.update.forwarding import RunContext
from at2po_agent.update.packing import Credited
from at2po_agent.update.processes import ONE, Processes
from at2po_agent.update.updater import Updater
from search_backend.outside import Unusable


def train(
    config: TrainConfig,
    *,
    run: RunDirectory | None = None,
    display: Display | None = None,
    stop: Event | None = None,
    algorithm: Algorithm | None = None,
) -> Result:
    """Train until a limit of ``config.train`` is reached, or ``stop`` is set.

    A run directory that has a checkpoint is continued from it, bit for bit in deterministic mode. A checkpoint is
    always written at the end, also after ``stop``. All work is done in this process: ``config.processes`` is for the
    command.

    Args:
        config: what to train, on what, and how.
        run: open, and left open; default: a new one where ``config.run_dir`` says.
        display: told about every step; default: nothing is shown.
        stop: set from elsewhere; the step under way is finished first, an evaluation is left at its next batch and made
            again when the run goes on.
        algorithm: what trains, in the place of ``config.algorithm``, which becomes its description. A run that goes on
            is given an equal one, or none where its components can be imported.

    Raises:
        AgentError: the configuration, the policy or the run directory cannot be used, or a run that goes on has other
            data, another index or another configuration than before; no new directory is left then.
        TrainingError: a reward is not finite, or every update of some steps in a row was skipped.
        EnvError: the benchmark's data cannot.
    """
    if algorithm is not None:
        config = replace(config, algorithm=AlgorithmConfig.of(algorithm))
    if run is None:
        with RunDirectory.create(config) as created:
            return train(config, run=created, display=display, stop=stop, algorithm=algorithm)
    if algorithm is not None and plain_json(run.config.algorithm) != plain_json(config.algorithm):
        raise ConfigError(
            f"{run.path} has another algorithm in its config.yaml than the argument: pass that one, or create the run "
            "with algorithm=AlgorithmConfig.of(algorithm) in its configuration"
        )
    display = display or Display(config.train.steps, console=Console(quiet=True))
    return train_together(config, RunRecorder(run, display), stop or Event(), ONE, algorithm)


async def atrain(
    config: TrainConfig,
    *,
    run: RunDirectory | None = None,
    display: Display | None = None,
    stop: Event | None = None,
    algorithm: Algorithm | None = None,
) -> Result:
    """``train`` on a thread beside the running loop.

    Cancelling it sets ``stop`` and waits for the step under way and its checkpoint.
    """
    stop = stop or Event()
    work = asyncio.ensure_future(
        asyncio.to_thread(train, config, run=run, display=display, stop=stop, algorithm=algorithm)
    )
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await work
        raise


def train_together(
    config: TrainConfig, recorder: Recorder, stop: Event, processes: Processes, algorithm: Algorithm | None = None
) -> Result:
    """``train`` by all ``processes``, which call this at the same time: each samples and updates on its share.

    Every process has all trees of a step, so that all take the same decisions; the first one records them. Where
    ``stop`` is set in one process, all stop.
    """
    folder = recorder.path / "engine"
    with closing(open_session(config, folder, recorder.note, processes, algorithm)) as session:
        manifest = session.manifest()
        processes.lead(lambda: recorder.check(manifest))
        trainer = _Trainer(config, recorder, stop, session, processes)
        recorder.session(manifest, trainer.at.step)
        try:
            return trainer.run_to_end()
        finally:
            recorder.close()


@dataclass
class _Position:
    """The position of a run: everything that decides the next step besides weights and optimiser."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    step: Count = 0
    drawn: Count = 0  # questions, those of groups that were left out too: the place in their order
    seconds: Number = 0.0  # of training: rollout, credit and update
    tokens: Count = 0  # generated in training
    trees: Count = 0
    dropped: Count = 0
    calls: Count = 0  # searches and tool calls in training
    cpu_seconds: Number = 0.0  # of training, of all processors
    before: dict[str, Any] | None = None  # the evaluation at the start
    tape: Count | None = None  # bytes of the search tape, where there is one


class _Trainer:
    def __init__(
        self, config: TrainConfig, recorder: Recorder, stop: Event, session: Session, processes: Processes
    ) -> None:
        self.config, self.recorder, self.stop = config, recorder, stop
        self.session, self.processes = session, processes
        rollouts, update = config.rollout, config.update
        self.updater = Updater(
            session.model,
            session.algorithm.objective,
            update,
            RunContext(
                temperature=rollouts.temperature,
                total_steps=config.train.steps * math.ceil(rollouts.questions / update.mini_batch) * update.epochs,
                processes=processes,
                device=session.device,
                note=recorder.note,
            ),
            reference=session.reference,
        )
        self.workers = RolloutWorkers(config, session, processes, recorder)
        self.skipped_updates = SkippedUpdates()
        self.collapse = CollapseWatch()
        self.collapsed: str | None = None  # why the run stops, where it shall stop on a collapse
        self.at = _Position()
        self.ahead: Batch | None = None  # sampled for the next step; between steps nothing is being sampled
        self.saved: Path | None = None  # the last checkpoint, and the step it is of
        self.saved_step = -1
        self.eval_tasks = session.eval_env.tasks[: config.eval.questions]
        self._resume()

    def run_to_end(self) -> Result:
        """Train, then say what came of it."""
        config, at, after = self.config, self.at, None
        if at.step == 0 and at.before is None and config.eval.at_start:
            before = self._evaluate()
            at.before = asdict(before) if before else None
        elif at.step > 0 and self._evaluation_is_due() and not self._is_evaluated():
            self._evaluate()  # the run ended before it did
        while not (self._is_stopped() or self._at_limit() or self.collapsed):
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
            before=Scores.from_json(at.before) if at.before else None,
            after=after,
            checkpoint=self.saved,
            stopped=after is None and self._is_stopped(),
            collapsed=self.collapsed,
            accepted=tuple(self.recorder.accepted),
        )

    def _is_stopped(self) -> bool:
        return any(self.processes.gather(self.stop.is_set()))

    def _is_evaluated(self) -> bool:
        return self.processes.lead(lambda: self.recorder.is_evaluated(self.at.step))

    def _at_limit(self) -> bool:
        at = self.at
        spent = Spent(at.step, at.seconds, at.cpu_seconds, at.tokens, at.calls)
        return self.config.train.reached(spent) is not None

    def _evaluation_is_due(self) -> bool:
        every = self.config.eval.every
        return bool(every and self.at.step % every == 0 and not self._at_limit())

    def _step(self) -> None:
        """One rollout batch and the updates it allows; beside them the next batch, where ``train.staleness`` is 1."""
        at = self.at
        started, cpu_started = perf_counter(), process_time()
        sampled: list[Batch] = []  # in this step
        if self.ahead is None:
            self.session.engine.clear_cache()  # of the weights before; and a resumed run computes the same
            self.ahead = self.workers.grow(at.step, at.drawn)
            sampled.append(self.ahead)
        batch, grown, self.ahead = self.ahead, self.ahead.rollout, None
        # Before trees are pruned: what was spent on lost paths was spent.
        generated, calls = grown.generated_tokens, grown.calls
        growing = self._begin_next(grown)
        credited = self._credit(grown)
        metrics = rollout_metrics(grown, credited, self.session.env.metrics)
        metrics |= {"generated_tokens": generated, "calls": calls}
        metrics |= batch.engine
        if self.config.train.staleness:
            metrics["staleness"] = batch.staleness(at.step)
        updated = self._update(credited, alone=growing is None)
        metrics |= {f"update_{name}": value for name, value in updated.items()}
        if growing is not None:
            self.ahead = self.workers.finish(growing)
            sampled.append(self.ahead)
        # Nothing is being sampled now, so that no turn and no batch is of two versions.
        self.session.engine.publish(self.session.model, at.step + 1)
        spent = self.processes.gather((perf_counter() - started, process_time() - cpu_started))
        seconds, cpu_seconds = spent[0][0], sum(cpu for _, cpu in spent)
        at.step, at.seconds, at.tokens = at.step + 1, at.seconds + seconds, at.tokens + generated
        at.calls, at.cpu_seconds = at.calls + calls, at.cpu_seconds + cpu_seconds
        at.drawn, at.trees = at.drawn + grown.questions, at.trees + len(grown.trees)
        at.dropped += len(grown.trees) - len(credited)
        self.recorder.trees(at.step, lambda: [self._tree_record(*one) for one in credited])
        timings = {**step_timings(seconds, sampled), "cpu": cpu_seconds, "tokens_per_second": generated / seconds}
        self.recorder.step(at.step, metrics, timings, at.seconds, at.tokens)
        for sentence in self.collapse.see(metrics):
            self.recorder.note(f"step {at.step}: {sentence}")
            if self.config.train.stop_on_collapse:
                self.collapsed = self.collapsed or sentence
        self.skipped_updates.see(at.step, updated)

    def _begin_next(self, grown: Rollout) -> Growing | None:
        """Begin to sample the next step's trees with the weights from before this step's update.

        None where that is not configured, or where this step's trees, ``grown``, reach a limit.
        """
        at, limits = self.at, self.config.train
        tokens, calls = at.tokens + grown.generated_tokens, at.calls + grown.calls
        if not limits.staleness or limits.reached(Spent(at.step + 1, at.seconds, at.cpu_seconds, tokens, calls)):
            return None
        self.session.engine.clear_cache()
        return self.workers.begin(at.step + 1, at.drawn + grown.questions)

    def _credit(self, grown: Rollout) -> list[Credited]:
        """Prune what has no score, drop trees with fewer than two scored leaves, assign credit to the others."""
        credited, algorithm = [], self.session.algorithm
        for tree in grown.trees:
            tree.prune()
            if len(tree.leaves) >= 2:
                credited.append(Credited(tree, algorithm.credit(tree, algorithm.shaping(tree))))
        return credited

    def _update(self, credited: Sequence[Credited], alone: bool) -> dict[str, float]:
        """Change the weights; ``alone`` where nothing is sampled meanwhile."""
        if not credited:
            self.recorder.note(f"step {self.at.step + 1}: no tree to learn from, so no update")
            return {}
        if alone:
            self.session.engine.release()
        return self.updater.update(credited)

    def _tree_record(self, tree: TurnTree, advantages: Sequence[Sequence[float]]) -> dict[str, Any]:
        algorithm, task = self.session.algorithm, self.session.env.task(tree.question_id)
        credit = algorithm.credit
        return tree_record(
            tree,
            question=task.text,
            answers=task.answers,
            advantages=advantages,
            values=list(credit.values(tree, algorithm.shaping(tree))) if isinstance(credit, TurnCredit) else None,
            decode=self.session.codec.decode_action,
        )

    def _evaluate(self) -> Scores | None:
        """Greedy EM on the held-out questions, shown and logged; None where there are none, or a stop came before."""
        if not self.eval_tasks or self._is_stopped():
            return None
        started, step = perf_counter(), self.at.step
        self.session.engine.clear_cache()
        evaluation = self.workers.evaluate(self.eval_tasks, self.stop)
        if evaluation is None:
            self.recorder.left(step)
            return None
        found = scores(step, evaluation, self.session.eval_env, self.eval_tasks)
        self.recorder.evaluation(found, perf_counter() - started)
        return found

    def _save(self) -> None:
        if self.saved_step == self.at.step:
            return
        self.at.tape = self.session.tape_position()
        progress = checkpoints.Progress(self.at.step, asdict(self.at), self.updater.state_dict(), self.ahead)
        self.saved = self.processes.lead(
            lambda: checkpoints.save(
                self.recorder.path / "checkpoints",
                progress,
                model=self.session.model,
                tokenizer=self.session.codec.tokenizer,
                # One from before a collapse is kept beside that of the run as it stopped.
                keep=self.config.checkpoint.keep + bool(self.collapsed),
            )
        )
        self.saved_step = self.at.step

    def _resume(self) -> None:
        found = self.processes.lead(lambda: checkpoints.latest(self.recorder.path / "checkpoints", self.recorder.note))
        if found is None:  # a new run, or one that was stopped before its first checkpoint
            self.recorder.begin(-1)
            return
        try:
            self.at = fitting(found.position, _Position)
        except Unusable as error:
            raise RunDirError(
                f"{found.path / 'position.json'}: {error}; remove {found.path} to continue from the one before it"
            ) from error
        _check_tape(self.at.tape, self.session.tape_position(), found.path)
        found.restore(self.session.model, self.updater)
        self.ahead = found.ahead()
        self.session.engine.publish(self.session.model, self.at.step)
        self.recorder.begin(self.at.step)
        for metrics in self.processes.lead(self.recorder.steps):
            self.collapse.see(metrics)
        self.saved, self.saved_step = found.path, self.at.step
        self.processes.lead(lambda: checkpoints.remove_superseded(found.path, self.config.checkpoint.keep))
        self.recorder.note(f"continuing from step {self.at.step} ({found.path})")


def _check_tape(needed: int | None, here: int | None, checkpoint: Path) -> None:
    """A run goes on with the search results that it was trained on, or not at all."""
    if needed is not None and (here is None or here < needed):
        raise RunDirError(
            f"{checkpoint} was written with {needed} bytes of search results on its tape, and the tape has {here or 0} "
            "now: restore the tape that env.kwargs.search names"
        )
