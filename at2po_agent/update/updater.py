"""The optimiser step: credited trees in, weights changed, metrics out.

A rollout batch is split into mini-batches of questions; each is one optimiser step. A mini-batch is forwarded in
micro-batches within a token budget, by all processes of the run together. The totals that the loss is divided by
(trajectories, generated tokens) are those of the whole mini-batch, counted before the first forward, so the gradient is
the same for every budget and any number of processes.

Trees whose advantages are all exactly zero stay in those totals. They add nothing to the loss or its gradient, so their
forward is left out unless a KL term needs it: an exact saving. Diagnostics of the policy's change (``ppo_kl``,
``turn_kl_entropy``) count them as unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from at2po_agent.method.objective import LossInputs, Objective
from at2po_agent.method.rows import merge
from at2po_agent.policy.base import PolicyError
from at2po_agent.update.forwarding import Forwarding, RunContext
from at2po_agent.update.packing import Credited, MicroBatch, PackedTree, pack_tree
from at2po_agent.update.schedule import UpdateConfig, learning_rate
from at2po_agent.update.sharding import load_optimizer_state, optimizer_state, whole

# Summed over steps; other metrics are averaged.
COUNTS = ("steps", "skipped_steps", "tokens_forwarded", "trees_without_signal")

_ALONE = RunContext()


class Updater:
    """AdamW on a policy's weights, one objective, packed forwards."""

    def __init__(
        self,
        model: PreTrainedModel,
        objective: Objective,
        config: UpdateConfig,
        run: RunContext = _ALONE,
        reference: PreTrainedModel | None = None,
    ) -> None:
        """Prepare the model for packed forwards, and make the optimiser.

        Args:
            model: changed in place; its mode (train or eval) is left as it is.
            objective: the loss over unrolled rows.
            config: how the weights follow.
            run: the rollout's temperature, the steps of the whole run, the processes that share the work, the device.
            reference: the policy that the objective's KL term holds on to; its LoRA adapters are left out.

        Raises:
            PolicyError: a model that packing would make wrong.
            ValueError: a KL term without a reference.
        """
        if objective.kl_coef and reference is None:
            raise ValueError(f"kl_coef is {objective.kl_coef}, so the update needs a reference model")
        self.objective, self.config = objective, config
        self.total_steps, self.processes = run.total_steps, run.processes
        self.policy = Forwarding(model, config, run)
        self.reference: Forwarding | None = None
        if reference is not None and objective.kl_coef:
            # A model with LoRA adapters is its own reference: without them it is what it began as.
            self.reference = self.policy if reference is model else Forwarding(reference, config, run)
        self.parameters = self.policy.parameters
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
            now = self.policy.without_grad(ready)
            ready = [replace(tree, logp_old=logp) for tree, (logp, _) in zip(ready, now, strict=True)]
        size = self.config.mini_batch
        mini_batches = [ready[i : i + size] for i in range(0, len(ready), size)]
        with self.policy.checkpointing():
            found = [self._step(batch) for _ in range(self.config.epochs) for batch in mini_batches]
        self.policy.to_whole()
        return _over_steps(found)

    def state_dict(self) -> dict[str, Any]:
        """The optimiser and the position in the schedule; the model's weights are not in it.

        Every process takes part, and the first one has all of it.
        """
        return {"optimizer": optimizer_state(self.optimizer, keep=self.processes.leads), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken, with the weights that the model has now."""
        self.policy.from_whole()
        load_optimizer_state(self.optimizer, dict(state["optimizer"]))
        self.steps = int(state["steps"])

    def _step(self, trees: Sequence[PackedTree]) -> dict[str, float]:
        # A tree whose advantages are all zero has no gradient, unless the loss has a KL term.
        used = [tree for tree in trees if self.objective.kl_coef or tree.has_signal]
        found = {"tokens_forwarded": float(sum(len(tree.ids) for tree in used))}
        found["trees_without_signal"] = float(sum(not tree.has_signal for tree in trees))
        found |= self._backward(used, trees)
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.grad_clip or math.inf)))
        # One bad batch must not ruin the weights: it is left out, and the metrics show it.
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
        """Leave the gradient of the mini-batch ``trees`` in the parameters; only ``used`` ones add to it.

        Every process forwards its share and divides by the totals of all, so that gradients and metrics add up.
        """
        # The totals that losses are divided by are those of all trees, also of those that are not forwarded.
        spread = self._entropy_mean_std(trees) if self.objective.uses_entropy and used else None
        totals = _Totals(sum(tree.n_sequences for tree in trees), sum(tree.n_tokens for tree in trees), spread)
        n_used = sum(tree.n_tokens for tree in used)
        parts = []
        for batch, members in self.policy.batches(used):
            # Processes that split the weights forward at the same time; so do they with the reference.
            logp, entropy = self.policy.rows(batch)
            logp_ref = None if self.reference is None else self.reference.base_logp(batch)
            if not members:
                # This process has no tree in this round: it takes part in the backward and adds nothing.
                torch.autograd.backward(0.0 * logp.sum())
                continue
            outputs = self.objective(_loss_inputs(batch, logp, entropy, logp_ref, totals))
            # Gradients of micro-batches add up in the parameters, and their metrics in ``merge``.
            torch.autograd.backward(outputs.loss)
            loss, mean_entropy = float(outputs.loss.detach()), float(entropy.sum()) / n_used
            parts.append(outputs.metrics | {"loss": loss, "entropy": mean_entropy})
        self.policy.sum_gradients()
        if not used:
            # The gradient is zero, which is not the same to AdamW as none: momentum and decay go on.
            for parameter in self.parameters:
                parameter.grad = torch.zeros_like(parameter)
        return merge(part for theirs in self.processes.gather(parts) for part in theirs)

    def _entropy_mean_std(self, trees: Sequence[PackedTree]) -> tuple[float, float]:
        """Over all unrolled rows of the mini-batch, trees without signal included; the std is unbiased."""
        entropy = torch.from_numpy(np.concatenate([entropy for _, entropy in self.policy.without_grad(trees)]))
        return float(entropy.mean()), float(entropy.std()) if len(entropy) > 1 else 0.0


@dataclass(frozen=True)
class _Totals:
    """Sums and means over a whole mini-batch, that the losses of its micro-batches refer to."""

    n_sequences: int
    n_tokens: int
    entropy: tuple[float, float] | None  # mean and std over all rows, where the objective uses them


def _loss_inputs(
    batch: MicroBatch, logp: Tensor, entropy: Tensor, logp_ref: Tensor | None, totals: _Totals
) -> LossInputs:
    mean, std = totals.entropy or (None, None)
    return LossInputs(
        logp=logp,
        logp_old=batch.logp_old.to(logp.dtype),
        advantage=batch.advantage.to(logp.dtype),
        sequence_ids=batch.sequence_ids,
        turn_ids=batch.turn_ids,
        n_sequences=totals.n_sequences,
        n_tokens=totals.n_tokens,
        entropy=entropy,
        entropy_mean=mean,
        entropy_std=std,
        logp_ref=logp_ref,
    )


def _check_straddling(trees: Sequence[Credited]) -> None:
    for tree, _ in trees:
        for index, node in enumerate(tree.nodes):
            if node.straddles:
                raise PolicyError(
                    f"tree {tree.question_id!r}: the weights changed while turn {index} was sampled, so its "
                    "log-probabilities come from two policies: set update.old_logprobs=recompute"
                )


def _over_steps(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Extremes and counts over all steps, means over those that have the metric."""
    merged = merge(steps)
    for name in merged:
        if name not in COUNTS and not name.endswith(("_min", "_max")):
            merged[name] /= sum(name in step for step in steps)
    return merged
