"""What each of the processes does that ``test_distributed`` starts with ``torchrun``."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Literal

import torch
from rich.console import Console

from at2po_agent.method.objective import AEPO, ATPO, GSPO, Objective, TokenClip
from at2po_agent.policy.lora import LoraConfig, add_lora, has_lora
from at2po_agent.training.config import TrainConfig, load_config
from at2po_agent.training.display import Display
from at2po_agent.training.recorder import Recorder, RunRecorder
from at2po_agent.training.run_dir import RunDirectory
from at2po_agent.training.trainer import train_together
from at2po_agent.update.forwarding import RunContext
from at2po_agent.update.processes import ONE, Processes, joined
from at2po_agent.update.schedule import UpdateConfig
from at2po_agent.update.updater import Updater
from tests.at2po_agent.training.test_trainer import SMALL, TREE
from tests.at2po_agent.update.test_updater import some_batch, without_signal
from tests.helpers.random_trees import tiny

BASE = UpdateConfig(lr=1e-2, grad_clip=0.5, mini_batch=3, max_tokens=40)
CASES: list[tuple[str, Objective, UpdateConfig]] = [
    ("atpo", ATPO(0.1, 0.1), BASE),
    ("gspo, recomputed", GSPO(0.1, 0.1), replace(BASE, old_logprobs="recompute", epochs=2)),
    ("aepo", AEPO(), replace(BASE, max_tokens=1000)),
    ("kl", TokenClip(kl_coef=0.1), BASE),
    ("fewer trees than processes", TokenClip(), replace(BASE, mini_batch=1)),
    ("adapters", ATPO(0.1, 0.1), BASE),
    ("adapters and kl", TokenClip(kl_coef=0.1), BASE),
    ("layers computed again", ATPO(0.1, 0.1), replace(BASE, gradient_checkpointing=True, schedule="cosine")),
]


def check_updates(processes: Processes, sharding: Literal["full", "none"]) -> None:
    """Two updates by all processes leave the weights, optimiser and metrics of one process, in float64.

    Adapters are float32 in a model of float64.
    """
    for name, objective, base in CASES:
        config = replace(base, sharding=sharding)
        model = tiny(tie_word_embeddings=name == "atpo")
        if name.startswith("adapters"):
            add_lora(model, LoraConfig(rank=2, alpha=4.0), seed=1)
        batch = [*some_batch(model, trees=4), without_signal(model, 8)]
        close = 1e-5 if has_lora(model) else 1e-9
        alone, together = copy.deepcopy(model), copy.deepcopy(model)
        found = []
        for trained, who in ((alone, ONE), (together, processes)):
            reference = None if not objective.kl_coef else trained if has_lora(model) else tiny(seed=1)
            updater = Updater(trained, objective, config, RunContext(total_steps=9, processes=who), reference)
            metrics = [updater.update(batch), updater.update(batch)]
            found.append((metrics, updater.state_dict()))
        for ours, theirs in zip(found[1][0], found[0][0], strict=True):
            assert ours.keys() == theirs.keys(), name
            for key in ours:
                assert abs(ours[key] - theirs[key]) < close, (name, key, ours[key], theirs[key])
        for ours, theirs in zip(together.parameters(), alone.parameters(), strict=True):
            assert float((ours - theirs).detach().abs().max()) < close, name
        if processes.leads:
            states = [state["optimizer"]["state"] for _, state in found]
            for index, state in states[0].items():
                assert torch.allclose(states[1][index]["exp_avg"], state["exp_avg"], atol=close / 10), name


def check_bfloat16(processes: Processes) -> None:
    """The forward in bfloat16 rounds differently with other micro-batches, and not more than that."""
    whole = tiny(dtype=torch.float32, hidden_size=64, head_dim=16)
    adapted = tiny(dtype=torch.bfloat16, hidden_size=64, head_dim=16)  # as models of the paper's sizes are loaded
    add_lora(adapted, LoraConfig(rank=4, alpha=8.0), seed=1)  # float32
    for model in (whole, adapted):
        batch = some_batch(model)
        config = replace(BASE, precision="bfloat16", grad_clip=0.0)
        norms = [
            Updater(copy.deepcopy(model), ATPO(0.5, 0.5), config, RunContext(processes=who)).update(batch)["grad_norm"]
            for who in (ONE, processes)
        ]
        assert abs(norms[1] / norms[0] - 1) < 0.05, norms


def run(processes: Processes, path: Path, *overrides: str, resume: bool = False, algorithm: str = TREE) -> None:
    """A run as ``at2po-agent train`` has it."""

    def lead() -> tuple[TrainConfig, RunDirectory]:
        config = load_config(None, [*SMALL, f"algorithm={algorithm}", f"run_dir={path}", *overrides])
        opened = RunDirectory.resume(path, overrides) if resume else RunDirectory.create(config)
        return opened.config, opened

    if processes.leads:
        config, directory = lead()
        processes.gather(config)
        with directory, Display(config.train.steps, console=Console(quiet=True)) as display:
            train_together(config, RunRecorder(directory, display), Event(), processes)
    else:
        nothing: TrainConfig = TrainConfig()
        train_together(processes.gather(nothing)[0], Recorder(path), Event(), processes)


def main() -> None:
    folder = Path(sys.argv[1])
    with joined() as processes:
        assert processes.count == 2
        check_updates(processes, "full")
        check_updates(processes, "none")
        check_bfloat16(processes)
        run(processes, folder / "two", "train.steps=2")
        run(processes, folder / "two-grpo", "train.steps=1", "eval.questions=0", algorithm="{name: grpo}")
        run(processes, folder / "two-lora", "train.steps=1", "eval.questions=0", "lora={rank: 4, alpha: 8}")
        run(processes, folder / "begun-by-one", "train.steps=3", resume=True)


if __name__ == "__main__":
    main()
