"""Forwards of packed trees in micro-batches: a policy's, or the frozen reference's that it is held on to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from at2po_agent.policy.lora import without_lora
from at2po_agent.update.logprobs import PackedPolicy, refuse_dropout
from at2po_agent.update.micro_batches import shares
from at2po_agent.update.packing import Floats, MicroBatch, PackedTree, collate
from at2po_agent.update.processes import ONE, Processes
from at2po_agent.update.schedule import UpdateConfig
from at2po_agent.update.sharding import copy_weights, shared, sum_gradients
from at2po_agent.update.tree_attention import planner_of


@dataclass(frozen=True)
class RunContext:
    """The run that an update is a part of; the defaults are those of a single step in one process."""

    temperature: float = 1.0  # of the rollout, above 0
    total_steps: int = 1  # optimiser steps of the whole run, for a schedule that falls
    processes: Processes = ONE  # all of them call the same methods with the same trees, and share the work
    device: torch.device | None = None  # where the update is computed; None: where the model is
    note: Callable[[str], None] = lambda text: None  # told about what takes long

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"training needs a rollout temperature above 0, not {self.temperature}")


class Forwarding:
    """A model that trees are forwarded through, held by one process or by all of them together."""

    def __init__(self, model: PreTrainedModel, config: UpdateConfig, run: RunContext) -> None:
        """Prepare the model, and share it with the other processes.

        Args:
            model: as it is sampled from and saved; processes that split it train on a copy that they share.
            config: how it is forwarded.
            run: the run's temperature, processes and device.

        Raises:
            PolicyError: a model that packing would make wrong, or attention that the device does not have.
        """
        device = run.device or model.device
        self._plan = planner_of(model, config, device, run.note)
        self._whole, self._config, self._temperature, self._processes = model, config, run.temperature, run.processes
        # Without a split each process has the model itself, and what it forwards concerns no other one.
        self._is_split = config.splits(run.processes.count)
        self._policy = shared(PackedPolicy(model), run.processes, device) if self._is_split else PackedPolicy(model)
        self.parameters = [p for p in self._policy.parameters() if p.requires_grad]
        self._device = next(self._policy.parameters()).device

    def batches(self, trees: Sequence[PackedTree]) -> Iterator[tuple[MicroBatch, list[int]]]:
        """This process's micro-batches, each with the trees it holds in the order of its rows.

        Processes that split a model have equally many, as each forward and backward needs all of them. Where there is
        no tree left for one, it gets the smallest that another has too, and an empty list: that batch is forwarded and
        counts nowhere.
        """
        sizes = [len(tree.ids) for tree in trees]
        for row in shares(sizes, self._config.max_tokens, self._processes.count):
            members = row[self._processes.rank]
            if not members and not self._is_split:
                continue
            held = members or [int(np.argmin(sizes))]
            yield collate([trees[i] for i in held]).to(self._device), members

    def rows(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """``logp [R]`` and ``entropy [R]``, gathered to unrolled rows."""
        half = self._config.precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            found: tuple[Tensor, Tensor] = self._policy(batch, self._temperature, self._plan(batch))
        return found

    @torch.no_grad()
    def base_logp(self, batch: MicroBatch) -> Tensor:
        """``logp [R]`` without gradient and without LoRA adapters: of the reference."""
        with without_lora(self._policy.model):
            return self.rows(batch)[0]

    @torch.no_grad()
    def without_grad(self, trees: Sequence[PackedTree]) -> list[tuple[Floats, Floats]]:
        """``logp [R]`` and ``entropy [R]`` of every tree, also of those that other processes forwarded."""
        found: dict[int, tuple[Floats, Floats]] = {}
        for batch, members in self.batches(trees):
            both = torch.stack(self.rows(batch)).double().cpu().numpy()
            ends = np.cumsum([trees[i].n_tokens for i in members])
            for i, (logp, entropy) in zip(members, np.split(both, ends, axis=1), strict=False):
                found[i] = logp, entropy
        for theirs in self._processes.gather(found):
            found |= theirs
        return [found[i] for i in range(len(trees))]

    def sum_gradients(self) -> None:
        """Add up what the backwards of all processes have left; those that split a model have done so already."""
        if self._processes.count > 1 and not self._is_split:
            sum_gradients(self.parameters, self._processes)

    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        """Compute layers again in the backward, where that is asked for; transformers does it in training mode only."""
        if not self._config.gradient_checkpointing:
            yield
            return
        model = self._policy.model
        mode = model.training
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.train()
        refuse_dropout(model)
        try:
            yield
        finally:
            model.train(mode)
            model.activation_checkpointing_disable()

    def to_whole(self) -> None:
        """Let the model that was given have the weights as they are now."""
        copy_weights(self._policy.model, self._whole)

    def from_whole(self) -> None:
        """Go on with the weights that the model that was given has now."""
        copy_weights(self._whole, self._policy.model)
