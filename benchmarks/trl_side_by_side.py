"""TRL's ``GRPOTrainer`` beside our ``grpo`` and ``at2po``: what 50 % and 70 % exact match cost on the quick start.

    PYTHONPATH=. .cache/integrations/trl/bin/python -m benchmarks.trl_side_by_side [--seeds 1 2 3] [--threads 1]

World, policy, limits of tokens, stops, reward and learning rate are those of ``--cfg quickstart`` on
every side, a step is one update on 32 questions with 16 episodes each, in the same order, and our own ``evaluate``
measures all of them on unseen questions; its time is not counted. First, 20 questions are played greedily by both
sides: all ids that the model reads are compared. Where each row is from:

grpo, at2po  ``train``; at2po with the quick start's trees, of 16 leaves as well
trl          ``GRPOTrainer`` with a ``rollout_func`` that samples with transformers' ``generate``, as TRL does on a CPU
trl+engine   the same trainer; ``rollout_func`` samples with our ``LocalPolicy``

A trainer has a process of its own, one runs at a time. Between two evaluations what was spent is interpolated. Runs
that are in the results' ``.json`` are not made again: an interrupted benchmark goes on.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig, TrainerCallback

from at2po_agent.method.algorithms import AlgorithmConfig
from at2po_agent.method.expansion import Chains
from at2po_agent.method.groups import draw_questions
from at2po_agent.rollouts.batch import rollout
from at2po_agent.rollouts.evaluate import evaluate
from at2po_agent.training.config import TrainConfig, load_config
from at2po_agent.training.display import Display
from at2po_agent.training.metrics import Scores
from at2po_agent.training.session import Session, open_session
from at2po_agent.training.trainer import train
from benchmarks.trl_curves import TARGETS, Curve, Settings, Spent, read_runs, table, write_runs
from benchmarks.trl_rollouts import (
    EngineRollout,
    Rollouts,
    TransformersRollout,
    episodes_of,
    message,
    reward,
    unequal,
)

RESULTS = Path(__file__).parent / "results" / "trl_side_by_side.txt"

GROUP = 16  # episodes of a question: leaves of the quick start's trees, chains of the others
BATCH = 64  # episodes that TRL forwards together
CHECKED = 20  # questions whose ids are compared before anything is measured
TRAINERS = ("grpo", "at2po", "trl", "trl+engine")

Result = TypeVar("Result")


def config_of(trainer: str, settings: Settings) -> TrainConfig:
    """The quick start's, until the last target or a limit is reached; GRPO's step on everything but ``at2po``."""
    config = load_config(
        "quickstart",
        [
            f"seed={settings.seed}",
            f"threads={settings.threads}",
            "train={steps: 10000, max_seconds: null}",
            f"train.max_tokens={settings.max_tokens}",
            f"train.max_cpu_seconds={settings.max_cpu_seconds}",
            f"eval={{questions: {settings.questions}, every: {settings.every}}}",
            "checkpoint.every=0",
            "log.trees_every=0",
        ],
    )
    return config if trainer == "at2po" else replace(config, algorithm=AlgorithmConfig("grpo", expansion={"n": GROUP}))


class CurveDisplay(Display):
    """Notes every evaluation of ``train``, and stops it when the last target is reached."""

    def __init__(self, curve: Curve, stop: Event) -> None:
        super().__init__(steps=1)
        self._curve, self._stop, self._spent = curve, stop, Spent()

    def step(self, step: int, metrics: Mapping[str, Any], seconds: float, tokens: int = 0) -> None:
        """Add up the processor's seconds; the trainer has the other sums."""
        self._spent = Spent(tokens, self._spent.cpu_seconds + metrics["cpu"], seconds)

    def evaluation(self, scores: Scores) -> None:
        """One more point of the curve."""
        self._curve.append((self._spent, scores.mean))
        if scores.mean >= TARGETS[-1]:
            self._stop.set()


def train_ours(trainer: str, settings: Settings) -> Curve:
    """``train`` as the command runs it, in a directory that is thrown away."""
    curve: Curve = []
    stop = Event()
    with tempfile.TemporaryDirectory() as folder:
        config = replace(config_of(trainer, settings), run_dir=f"{folder}/run")
        train(config, display=CurveDisplay(curve, stop), stop=stop)
    return curve


class CurveCallback(TrainerCallback):  # type: ignore[misc]
    """Evaluates TRL's model as ``train`` does its own, at the same steps, while the clock stands."""

    def __init__(self, session: Session, config: TrainConfig, tokens: Callable[[], int]) -> None:
        self.curve: Curve = []
        self._session, self._config, self._tokens = session, config, tokens
        self._spent, self._from = Spent(), (0.0, 0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """Evaluate the starting policy, and start the clock."""
        self._evaluate(model)
        self._from = time.process_time(), time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """Evaluate where it is due, and stop at a limit or the last target."""
        cpu, wall = self._from
        self._spent = Spent(
            self._tokens(),
            self._spent.cpu_seconds + time.process_time() - cpu,
            self._spent.seconds + time.perf_counter() - wall,
        )
        limits = self._config.train
        assert limits.max_tokens is not None and limits.max_cpu_seconds is not None
        is_over = self._spent.tokens >= limits.max_tokens or self._spent.cpu_seconds >= limits.max_cpu_seconds
        if is_over or state.global_step % self._config.eval.every == 0:
            self._evaluate(model)
        control.should_training_stop = is_over or self.curve[-1][1] >= TARGETS[-1]
        self._from = time.process_time(), time.perf_counter()

    def _evaluate(self, model: Any) -> None:
        session, config = self._session, self._config.eval
        session.engine.publish(model, 0)
        tasks = session.eval_env.tasks[: config.questions]
        greedy = session.actor.greedy()
        score = session.engine.run(evaluate(session.eval_env, tasks, greedy, batch=config.batch)).mean("em")
        self.curve.append((self._spent, score))
        model.train()


def open_for_trl(settings: Settings) -> tuple[TrainConfig, Session]:
    """Environments, policy and engine as our ``grpo`` has them, with torch as TRL leaves it."""
    config = config_of("trl", settings)
    session = open_session(config)
    torch.use_deterministic_algorithms(False)
    session.codec.tokenizer.padding_side = "left"
    return config, session


def train_trl(trainer: str, settings: Settings) -> Curve:
    """``GRPOTrainer``, with its defaults except for what is set here."""
    config, session = open_for_trl(settings)
    by_engine = trainer == "trl+engine"
    sample = EngineRollout(session, settings.seed) if by_engine else TransformersRollout(session)
    watch = CurveCallback(session, config, lambda: sample.tokens)
    with tempfile.TemporaryDirectory() as folder:
        grpo_trainer(config, session, sample, folder, watch).train()
    session.close()
    return watch.curve


def grpo_trainer(
    config: TrainConfig, session: Session, sample: Rollouts, folder: str, *callbacks: TrainerCallback
) -> Any:
    """TRL's trainer on a session's questions, in the order in which ours draws them."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    tasks = draw_questions(session.env.tasks, config.seed, 0, len(session.env.tasks))
    return GRPOTrainer(
        session.model,
        args=GRPOConfig(
            output_dir=folder,
            seed=config.seed,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=config.rollout.questions * GROUP // BATCH,
            num_generations=GROUP,
            max_steps=config.train.steps,
            shuffle_dataset=False,
            learning_rate=config.update.lr,
            lr_scheduler_type="constant",
            weight_decay=config.update.weight_decay,
            max_grad_norm=config.update.grad_clip,
            temperature=config.rollout.temperature,
            max_completion_length=config.rollout.max_response_tokens,
            generation_kwargs=generation_of(config, session),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        ),
        train_dataset=Dataset.from_dict({"prompt": [message(session.env.task(task).text) for task in tasks]}),
        rollout_func=sample,
        reward_funcs=[reward],
        processing_class=session.codec.tokenizer,
        callbacks=list(callbacks),
    )


def generation_of(config: TrainConfig, session: Session) -> dict[str, Any]:
    """Where a turn ends, as transformers' ``generate`` is told it."""
    return {"max_new_tokens": config.rollout.max_turn_tokens, "stop_strings": list(session.env.stop)}


def check_prompts(settings: Settings) -> str:
    """Play the first questions greedily with both samplers and compare all ids, masks and rewards.

    Raises:
        RuntimeError: some differ.
    """
    config, session = open_for_trl(settings)
    env, sample, tasks = session.env, TransformersRollout(session), session.env.tasks[:CHECKED]
    pad = session.codec.tokenizer.pad_token_id
    generation = GenerationConfig(**generation_of(config, session), do_sample=False, pad_token_id=pad, eos_token_id=0)
    theirs = sample.play([message(env.task(task).text) for task in tasks], session.model, generation)
    grown = session.engine.run(rollout(env, tasks, session.actor.greedy(), Chains(1)))
    session.close()
    if wrong := unequal(episodes_of(grown.trees), theirs):
        raise RuntimeError(f"the two sides do not read the same: {[tasks[n] for n in wrong]}")
    read = sum(len(episode.prompt) + episode.mask.count(0) for episode in theirs)
    return f"{len(tasks)} questions played greedily by both sides: all {read:,} ids that the model reads are equal"


def play(trainer: str, settings: Settings) -> Curve:
    """A whole run, in a process of its own."""
    warnings.filterwarnings("ignore")
    return (train_trl if trainer.startswith("trl") else train_ours)(trainer, settings)


def alone(work: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a function in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=TRAINERS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(1, 2, 3))
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--every", type=int, default=4, help="steps between evaluations")
    parser.add_argument("--questions", type=int, default=300, help="of an evaluation, from the test split's first on")
    parser.add_argument("--max-tokens", type=int, default=400_000, help="generated in a run, at most")
    parser.add_argument("--max-cpu-seconds", type=float, default=360, help="of a run without evaluations, at most")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if importlib.util.find_spec("trl") is None:
        parser.error("TRL is not installed: make integration-environments, then use .cache/integrations/trl/bin/python")
    given = {name: getattr(arguments, name) for name in ("threads", "every", "questions", "max_tokens")}
    settings = [Settings(seed, max_cpu_seconds=arguments.max_cpu_seconds, **given) for seed in arguments.seeds]
    stored = arguments.results.with_suffix(".json")
    versions = ", ".join(f"{name} {version(name)}" for name in ("trl", "torch", "transformers"))
    lines = [
        "python -m benchmarks.trl_side_by_side",
        f"{versions}, Python {platform.python_version()}, {platform.machine()}; {os.cpu_count()} cores, "
        f"{arguments.threads} thread of torch a trainer, one trainer at a time",
        f"load average at the start {os.getloadavg()[0]:.1f}; cpu s are processor seconds of all threads, what to "
        "compare where other work shares the machine",
        f"{config_of('trl', settings[0]).rollout.questions} questions a step, {GROUP} episodes each; EM on "
        f"{arguments.questions} unseen test questions every {arguments.every} steps, not in the seconds; at most "
        f"{arguments.max_tokens:,} tokens and {arguments.max_cpu_seconds:.0f} cpu s",
        alone(check_prompts, settings[0]),
    ]
    runs = read_runs(stored, settings)
    for one in settings:
        for trainer in arguments.trainers:
            if (trainer, one) not in runs:
                runs[trainer, one] = alone(play, trainer, one)
                write_runs(stored, runs)
            # As far as it is: a run takes minutes.
            text = "\n".join([*lines, *table({(name, of.seed): curve for (name, of), curve in runs.items()})])
            print(text, flush=True)
            arguments.results.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
