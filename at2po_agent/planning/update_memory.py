"""Trace the memory of an update besides weights, gradients and optimiser, from shapes alone.

The update's own code forwards one packed micro-batch and goes back through it, on fake tensors (torch's
``FakeTensorMode``: shapes, types and storages without data), and every storage is counted from its making to its end.
So the number is of this code and this architecture rather than of a formula. It is what tensors take; an allocator that
keeps freed memory for later takes more. Attention is counted as torch's fused kernels for CPUs do it, which keep what
flash attention keeps: queries, keys, values, outputs, and one number for every query and head.

Layers are alike, so the peak grows by the same amount with each one: two models, of one and of two layers, give it for
any number. Only the backward's peak is looked for. The forwards without gradients (``old_logprobs: recompute``, the
reference of a KL term) keep nothing, and need less than one layer's backward.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedConfig, PreTrainedModel

from at2po_agent.method.tree import ROOT, TurnNode, TurnTree
from at2po_agent.policy.architecture import outline
from at2po_agent.policy.lora import LoraConfig, add_lora
from at2po_agent.update.attention_blocks import plan_blocks
from at2po_agent.update.logprobs import packed
from at2po_agent.update.packing import Credited, MicroBatch, collate, pack_tree
from at2po_agent.update.tree_attention import TREE_OR_SDPA


@dataclass(frozen=True)
class Trained:
    """The model to train: its sizes, precision, checkpointing and adapters."""

    sizes: PreTrainedConfig
    dtype: torch.dtype
    half: bool  # update.precision is bfloat16: autocast
    checkpointing: bool
    lora: LoraConfig | None

    def outline(self, layers: int | None = None) -> PreTrainedModel:
        """The model without data, its adapters in it."""
        model = outline(self.sizes, self.dtype, layers)
        if self.lora:
            add_lora(model, self.lora, seed=0)
        return model


def star(prompt: int, leaves: int, tokens: int) -> TurnTree:
    """A tree of ``tokens`` tokens: a prompt, and under it ``leaves`` branches of one length that share nothing else."""
    tree = TurnTree((0,) * prompt, question_id="made up")
    each = max(2, (tokens - prompt) // leaves)
    for leaf in range(leaves):
        # The first token tells the branches apart; the last one is predicted only.
        action = (leaf, *(0,) * each)
        tree.add(TurnNode(ROOT, leaf, 1, action, (0.0,) * len(action), (), leaf=True))
    return tree


def micro_batch(trees: Sequence[TurnTree]) -> MicroBatch:
    """The trees packed."""
    return collate([pack_tree(*Credited(tree, [[1.0]] * len(tree.leaves))) for tree in trees])


def activation_bytes(trained: Trained, batch: MicroBatch) -> int:
    """Bytes that the update of one micro-batch holds at its peak, besides weights, gradients and optimiser."""
    one, two = (_peak(trained, layers, batch) for layers in (1, 2))
    return one + (two - one) * (int(trained.sizes.num_hidden_layers) - 1)


def _peak(trained: Trained, layers: int, batch: MicroBatch) -> int:
    model = trained.outline(layers)
    model.set_attn_implementation(TREE_OR_SDPA)
    tree = plan_blocks(batch.positions.numpy(), batch.ends.numpy(), trained.dtype, torch.device("cpu"))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        _materialise(model)
        tree, batch = tree.map(mode.from_tensor), batch.map(mode.from_tensor)
        if trained.checkpointing:
            model.train()
            model.activation_checkpointing_enable({"use_reentrant": False})
        held = [tensor for p in model.parameters() for tensor in (p, p.grad) if tensor is not None]
        with _Live(held) as live:
            with torch.autocast("cpu", torch.bfloat16, enabled=trained.half):
                logp, _ = packed(model, batch, 1.0, tree)
            torch.autograd.backward(logp.sum())
    return int(live.peak)


def _materialise(model: PreTrainedModel) -> None:
    """Give a model on the meta device tensors of the mode's own, and gradients as after a first micro-batch."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, old in module.named_parameters(recurse=False):
            new = made.setdefault(id(old), torch.nn.Parameter(_empty(old), old.requires_grad))  # tied ones once
            new.grad = _empty(old) if old.requires_grad else None
            module._parameters[name] = new
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = _empty(buffer)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("no parameter is trained")


def _empty(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype)


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that come to life while it is entered, and those that are alive at once."""

    def __init__(self, held: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet(tensor.untyped_storage() for tensor in held)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._see, found)
        return found

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.now -= size
