"""Directories of training runs with numbers of a test's choice, as ``train`` leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from at2po_agent.environments import EnvConfig
from at2po_agent.method.algorithms import AlgorithmConfig
from at2po_agent.policy.loading import PolicyConfig
from at2po_agent.training.config import TrainConfig, TrainLimits
from at2po_agent.training.metrics import Scores
from at2po_agent.training.run_dir import RunDirectory

STEP = {"generated_tokens": 100, "calls": 10}
TIME = {"step": 2.0, "cpu": 3.0, "tokens_per_second": 50.0}


def write_run(
    path: Path,
    evaluations: Sequence[Sequence[float]],
    *,
    seed: int = 1,
    algorithm: str = "at2po",
    steps: int | None = None,
    source: str = "microwiki test",
) -> Path:
    """A run of one step between two evaluations, each the values of questions q0, q1, …"""
    config = TrainConfig(
        run_dir=str(path),
        seed=seed,
        env=EnvConfig(id="AT2PO-MicroWiki-v0"),
        policy=PolicyConfig(path="p"),
        algorithm=AlgorithmConfig(algorithm),
        train=TrainLimits(steps=len(evaluations) - 1 if steps is None else steps),
    )
    with RunDirectory.create(config) as run:
        for step, values in enumerate(evaluations):
            if step:
                run.log(step, STEP, TIME)
            ids = tuple(f"q{n}" for n in range(len(values)))
            run.log_evaluation(step, Scores(step, ids, tuple(values), ("",) * len(values), source=source), 1.0)
        run.add_session({"python": "3", "eval_env": {"dataset": {"digest": "d" * 64}}})
    return path
