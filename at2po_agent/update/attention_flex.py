"""Tree attention on CUDA: FlexAttention (arXiv 2412.05496), compiled once, with block masks made from intervals.

Token ``i`` sees token ``j`` if ``j ≤ i < ends[j]``, so what a block of queries sees of a block of keys follows from the
largest and the smallest end among the keys, and no pair of tokens is looked at. Lengths are padded to few buckets, so
that no step compiles anew; padding is a tree of one token each, and costs one block in 128 tokens.

FlexAttention has no backward on CPUs. Its Triton backward adds every gradient up in one program, without atomics, so
that equal steps give equal bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from at2po_agent.policy.architecture import Heads, in_one_line
from at2po_agent.policy.base import PolicyError
from at2po_agent.update.packing import MicroBatch

BLOCK = 128  # queries and keys of a block of the mask
SMALLEST_HEAD = 16  # of FlexAttention's kernels

Kernel = Callable[..., Tensor]


@cache
def compiled_kernel() -> Kernel:
    """FlexAttention compiled for static shapes, one for the whole process."""
    kernel: Kernel = torch.compile(flex_attention, dynamic=False, fullgraph=True)
    return kernel


def bucket_of(tokens: int, max_tokens: int) -> int:
    """The length that ``tokens`` are padded to: ``max_tokens`` in whole blocks, doubled until they fit."""
    bucket = -(-max_tokens // BLOCK) * BLOCK
    while bucket < tokens:
        bucket *= 2
    return bucket


def interval_mask(ends: Tensor, block: int = BLOCK) -> BlockMask:
    """The block mask of packed trees.

    Args:
        ends: ``[N]`` one past each token's last descendant; ``N`` is a multiple of ``block``.
        block: queries and keys of a block.
    """
    length, device = len(ends), ends.device
    blocks = length // block
    of_blocks = ends.view(blocks, block)
    latest, earliest = of_blocks.amax(1), of_blocks.amin(1)
    begin = torch.arange(blocks, device=device) * block
    # The first query of a later block sees a key if any does; all queries see all keys if the last one sees them.
    before = begin[:, None] > begin
    full = before & (earliest >= begin[:, None] + block)
    partial = (before & (latest > begin[:, None]) & ~full) | torch.eye(blocks, dtype=torch.bool, device=device)

    ends = ends.to(torch.int32)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < ends[key])

    # Not from_kv_blocks, which takes ten times as long to find out the key blocks' queries: here they are transposed.
    keys, full_keys, queries, full_queries = map(_ordered, (partial, full, partial.T, full.T))
    return BlockMask((length, length), *keys, *full_keys, *queries, *full_queries, (block, block), sees)


def _ordered(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """The true columns of every row: how many ``[1, 1, rows]``, and which first ``[1, 1, rows, columns]``."""
    true = pairs.cumsum(1)
    columns = torch.arange(pairs.shape[1], device=pairs.device)
    # Where each column stands among the true ones of its row, and behind all of those where it is none.
    places = torch.where(pairs, true - 1, true[:, -1:] + columns - true)
    listed = torch.empty_like(places).scatter_(1, places, columns.expand_as(places))
    return true[:, -1].to(torch.int32)[None, None], listed.to(torch.int32)[None, None]


@dataclass(frozen=True)
class FlexLayout:
    """The attention layout of the ``N`` packed tokens of a micro-batch, padded to a bucket."""

    mask: BlockMask
    length: int  # of the bucket
    kernel: Kernel

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """See ``tree_attention.Layout``."""
        heads, tokens = query.shape[1:3]
        device = query.device.type
        # A norm of float32 weights leaves queries and keys in float32 beside values in bfloat16.
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype
        padded = (self._padded(states.to(dtype)) for states in (query, key, value))
        output = self.kernel(*padded, block_mask=self.mask, scale=scaling, enable_gqa=heads != key.shape[1])
        return output[:, :, :tokens].transpose(1, 2)

    def _padded(self, states: Tensor) -> Tensor:
        """Of the bucket's length, and alike in everything else that a compiled kernel is guarded by."""
        _, heads, tokens, size = states.shape
        padded = functional.pad(states, (0, 0, 0, self.length - tokens)).reshape(-1).view(1, heads, self.length, size)
        # With frozen projections, as beside LoRA adapters, some would need no gradient in the first layer.
        return padded.requires_grad_() if torch.is_grad_enabled() and not padded.requires_grad else padded


class FlexPlanner:
    """Plan layouts of micro-batches, and compile the kernel before the first one of a bucket.

    Args:
        heads: of the model.
        dtype: of its states outside of autocast.
        max_tokens: of a micro-batch; a single tree may be larger.
        note: told about every compilation.
        kernel: with the signature of ``flex_attention``; default: the compiled one.
    """

    def __init__(
        self,
        heads: Heads,
        dtype: torch.dtype,
        max_tokens: int,
        note: Callable[[str], None],
        kernel: Kernel | None = None,
    ) -> None:
        self._heads, self._dtype, self._max_tokens, self._note = heads, dtype, max_tokens, note
        self._kernel = kernel or compiled_kernel()
        self._ready: set[Any] = set()

    def __call__(self, batch: MicroBatch) -> FlexLayout:
        """The layout of ``batch``, on its device and without waiting for that."""
        tokens = len(batch.ids)
        layout = self._layout(batch.ends, bucket_of(tokens, self._max_tokens))
        device = batch.ends.device
        ready = (layout.length, torch.is_grad_enabled(), torch.is_autocast_enabled(device.type))
        if ready not in self._ready:
            self._compile(layout.length, device)
            self._ready.add(ready)
        return layout

    def _layout(self, ends: Tensor, length: int) -> FlexLayout:
        alone = torch.arange(len(ends) + 1, length + 1, device=ends.device)
        return FlexLayout(interval_mask(torch.cat([ends, alone])), length, self._kernel)

    def _compile(self, length: int, device: torch.device) -> None:
        """Run the kernel once on as many trees of one token, forward and backward, and say how long that took.

        Raises:
            PolicyError: it cannot be compiled.
        """
        start = time.perf_counter()
        layout = self._layout(torch.arange(1, length + 1, device=device), length)
        query, key = (
            torch.zeros(1, heads, length, self._heads.size, dtype=self._dtype, device=device)
            for heads in (self._heads.queries, self._heads.keys)
        )
        try:
            output = layout.attend(query, key, key, self._heads.size**-0.5)
            if output.requires_grad:
                torch.autograd.backward(output.sum())
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        except torch.OutOfMemoryError:
            raise
        # Triton needs a compiler of C and a card that it knows, and fails without them in many ways.
        except Exception as error:
            raise PolicyError(
                f"attention along trees cannot be compiled here ({in_one_line(error)}): set update.attention=blocks"
            ) from error
        self._note(
            f"compiled attention along trees for up to {length:,} tokens in {time.perf_counter() - start:.1f} s; "
            f"{graphs()} graphs so far"
        )


def graphs() -> int:
    """Graphs that torch has compiled in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])
