"""The optimiser step: credited trees in, weights changed, metrics out.

A rollout batch is split into mini-batches of questions; each is one optimiser step. A mini-batch is forwarded in
micro-batches within a token budget. The totals that the loss is divided by (trajectories, generated tokens) are those
of the whole mini-batch, counted before the first forward, so the gradient is the same for every budget.

Trees whose advantages are all exactly zero stay in those totals. They add nothing to the loss or its gradient, so their
forward is left out unless a KL term needs it: an exact saving. Diagnostics of the policy's change (``ppo_kl``,
``turn_kl_entropy``) count them as unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from at2po_agent.config import UpdateConfig
from at2po_agent.logprobs import packed, prepare_model
from at2po_agent.objective import LossInputs, Objective
from at2po_agent.objective_metrics import merge
from at2po_agent.packing import Credited, MicroBatch, PackedTree, collate, pack_tree, plan
from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.lora import without_lora

COUNTS = (
    "steps",
    "skipped_steps",
    "tokens_forwarded",
    "trees_without_signal",
)  # summed over steps; the rest is averaged


def learning_rate(config: UpdateConfig, step: int, total_steps: int) -> float:
    """The learning rate of optimiser step ``step`` (from 0).

    Rises linearly over ``warmup_steps``, then stays or falls to 0 at ``total_steps``, linearly or as half a cosine.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    left = 1 - min(1.0, (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps))
    shape = {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}
    return config.lr * shape[config.schedule]


class Updater:
    """AdamW on a policy's weights, one objective, packed forwards."""

    def __init__(
        self,
        model: PreTrainedModel,
        objective: Objective,
        config: UpdateConfig,
        temperature: float = 1.0,
        total_steps: int = 1,
        reference: PreTrainedModel | None = None,
    ) -> None:
        """Hold what every step needs.

        Args:
            model: changed in place; its mode (train or eval) is left as it is.
            objective: the loss over unrolled rows.
            config: how the weights follow.
            temperature: of the rollout.
            total_steps: optimiser steps of the whole run, for a schedule that falls.
            reference: the policy that the objective's KL term holds on to; its LoRA adapters are left out.

        Raises:
            ValueError: a model that packing would make wrong, a temperature of 0, or a KL term without a reference.
        """
        if not temperature > 0:
            raise ValueError(f"training needs a rollout temperature above 0, not {temperature}")
        if objective.kl_coef and reference is None:
            raise ValueError(f"kl_coef is {objective.kl_coef}, so the update needs a reference model")
        prepare_model(model)
        self.model, self.objective, self.config = model, objective, config
        self.temperature, self.total_steps = temperature, total_steps
        self.reference = reference if objective.kl_coef else None
        if self.reference is not None:
            prepare_model(self.reference)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, config.lr, weight_decay=config.weight_decay, fused=True)
        self.steps = 0  # optimiser steps taken: the position in the schedule

    def update(self, trees: Sequence[Credited]) -> dict[str, float]:
        """Take ``ceil(len(trees) / mini_batch)`` optimiser steps an epoch, trees in the order given.

        A step whose gradient is not finite is left out, weights and optimiser untouched, and counted.

        Returns:
            Means over the steps taken of ``loss``, ``grad_norm`` (before clipping), ``lr``, ``entropy`` (nats, over the
            rows that were forwarded) and the objective's own metrics; extremes of those in ``_min`` and ``_max``; the
            sums ``steps``, ``skipped_steps``, ``tokens_forwarded`` (without padding) and ``trees_without_signal``.

        Raises:
            ValueError: no trees, or a tree and its advantages do not fit (see ``pack_tree``).
            PolicyError: the weights changed while a turn was sampled, and its log-probabilities are to be used.
        """
        if not trees:
            raise ValueError("no trees to update on: every tree of the batch was dropped")
        if self.config.old_logprobs == "rollout":
            _check_straddling(trees)
        ready = [pack_tree(tree, advantages) for tree, advantages in trees]
        if self.config.old_logprobs == "recompute":
            logps = self._without_grad(ready)[0]
            ready = [
                replace(tree, logp_old=logp.double().cpu().numpy()) for tree, logp in zip(ready, logps, strict=True)
            ]
        size = self.config.mini_batch
        mini_batches = [ready[i : i + size] for i in range(0, len(ready), size)]
        with self._checkpointing():
            found = [self._step(batch) for _ in range(self.config.epochs) for batch in mini_batches]
        return _over_steps(found)

    @contextmanager
    def _checkpointing(self) -> Iterator[None]:
        """Compute layers again in the backward, where that is asked for; transformers does it in training mode only."""
        if not self.config.gradient_checkpointing:
            yield
            return
        mode = self.model.training
        self.model.activation_checkpointing_enable({"use_reentrant": False})
        self.model.train()
        prepare_model(self.model)  # refuses dropout
        try:
            yield
        finally:
            self.model.train(mode)
            self.model.activation_checkpointing_disable()

    def state_dict(self) -> dict[str, Any]:
        """The optimiser and the position in the schedule; the model's weights are not in it."""
        return {"optimizer": self.optimizer.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken."""
        self.optimizer.load_state_dict(dict(state["optimizer"]))
        self.steps = int(state["steps"])

    def _step(self, trees: Sequence[PackedTree]) -> dict[str, float]:
        used = [tree for tree in trees if self.objective.kl_coef or tree.has_signal]
        found = {"tokens_forwarded": float(sum(len(tree.ids) for tree in used))}
        found["trees_without_signal"] = float(sum(not tree.has_signal for tree in trees))
        found |= self._backward(used, trees)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.grad_clip or math.inf))
        if not math.isfinite(norm):
            self.optimizer.zero_grad()
            return {"skipped_steps": 1.0, "steps": 0.0}
        lr = learning_rate(self.config, self.steps, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        return found | {"grad_norm": norm, "lr": lr, "steps": 1.0, "skipped_steps": 0.0}

    def _backward(self, used: Sequence[PackedTree], trees: Sequence[PackedTree]) -> dict[str, float]:
        """Leave the gradient of the mini-batch ``trees`` in the parameters; only ``used`` ones add to it."""
        n_sequences = sum(tree.n_sequences for tree in trees)
        n_tokens = sum(tree.n_tokens for tree in trees)
        spread = self._entropy_mean_std(trees) if self.objective.uses_entropy and used else (None, None)
        n_used = sum(tree.n_tokens for tree in used)
        parts = []
        for batch, _ in self._batches(used):
            logp, entropy = self._rows(self.model, batch)
            outputs = self.objective(
                LossInputs(
                    logp=logp,
                    logp_old=batch.logp_old.to(logp.dtype),
                    advantage=batch.advantage.to(logp.dtype),
                    sequence_ids=batch.sequence_ids,
                    turn_ids=batch.turn_ids,
                    n_sequences=n_sequences,
                    n_tokens=n_tokens,
                    entropy=entropy,
                    entropy_mean=spread[0],
                    entropy_std=spread[1],
                    logp_ref=self._reference_logp(batch),
                )
            )
            torch.autograd.backward(outputs.loss)
            parts.append(
                outputs.metrics | {"loss": float(outputs.loss.detach()), "entropy": float(entropy.sum()) / n_used}
            )
        if not used:  # the gradient is zero, which is not the same to AdamW as none: momentum and decay go on
            for parameter in self.parameters:
                parameter.grad = torch.zeros_like(parameter)
        return merge(parts)

    def _batches(self, trees: Sequence[PackedTree]) -> Iterator[tuple[MicroBatch, list[int]]]:
        """Micro-batches on the model's device, each with the trees it holds in the order of its rows."""
        for members in plan([len(tree.ids) for tree in trees], self.config.max_tokens):
            yield collate([trees[i] for i in members]).to(self.model.device), members

    def _rows(self, model: PreTrainedModel, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """``logp [R]`` and ``entropy [R]``, gathered to unrolled rows."""
        half = self.config.precision == "bfloat16"
        with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
            logp, entropy = packed(model, batch, self.temperature)
        # index_select, because on many threads its backward is deterministic and that of logp[rows] is not
        return logp.index_select(0, batch.rows), entropy.index_select(0, batch.rows)

    @torch.no_grad()
    def _reference_logp(self, batch: MicroBatch) -> Tensor | None:
        if self.reference is None:
            return None
        with without_lora(self.reference):
            return self._rows(self.reference, batch)[0]

    @torch.no_grad()
    def _without_grad(self, trees: Sequence[PackedTree]) -> tuple[list[Tensor], list[Tensor]]:
        """``logp [R]`` and ``entropy [R]`` of every tree under the present weights."""
        logps, entropies = [torch.empty(0)] * len(trees), [torch.empty(0)] * len(trees)
        for batch, order in self._batches(trees):
            logp, entropy = self._rows(self.model, batch)
            counts = [trees[i].n_tokens for i in order]
            for i, of_logp, of_entropy in zip(
                order, torch.split(logp, counts), torch.split(entropy, counts), strict=True
            ):
                logps[i], entropies[i] = of_logp, of_entropy
        return logps, entropies

    def _entropy_mean_std(self, trees: Sequence[PackedTree]) -> tuple[float, float]:
        """Over all unrolled rows of the mini-batch, trees without signal included; the std is unbiased."""
        entropy = torch.cat(self._without_grad(trees)[1]).double()
        return float(entropy.mean()), float(entropy.std()) if len(entropy) > 1 else 0.0


def _check_straddling(trees: Sequence[Credited]) -> None:
    for tree, _ in trees:
        for index, node in enumerate(tree.nodes):
            if node.straddles:
                raise PolicyError(
                    f"tree {tree.question_id!r}: the weights changed while turn {index} was sampled, so its "
                    "log-probabilities are those of no one policy: set update.old_logprobs=recompute"
                )


def _over_steps(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Extremes and counts over all steps, means over those that have the metric."""
    merged = merge(steps)
    for name in merged:
        if name not in COUNTS and not name.endswith(("_min", "_max")):
            merged[name] /= sum(name in step for step in steps)
    return merged
