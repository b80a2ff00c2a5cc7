"""What the update could be made of, one kernel at a time, forward and backward: attention of one layer, and the loss.

Attention along the first tree of ``trees``, heads of Qwen3-0.6B's shape, bfloat16. Beside FlexAttention and the blocks
stands *gathered*: every stretch of the tree without a fork is a sequence whose keys are its whole path, copied, for a
variable-length kernel (as TRL's ``async_grpo/packing.py`` does it); with FlashAttention 3 where
``flash_attn_interface`` is installed. *Causal* is the kernel of plain text over as many tokens, so another result.

The loss is log-probabilities of every action token under a vocabulary of 152k: chunks of logits that are computed again
in the backward, which the update takes, beside cut-cross-entropy (arXiv 2411.09009) where that is installed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from at2po_agent.policy.architecture import Heads
from at2po_agent.update.attention_blocks import plan_blocks
from at2po_agent.update.attention_flex import FlexPlanner
from at2po_agent.update.logprobs import token_logprobs
from at2po_agent.update.packing import Credited, MicroBatch, collate, pack_tree
from at2po_agent.update.tree_attention import Layout
from benchmarks.gpu.machine import arguments_of, device, wait
from benchmarks.gpu.trees import SHAPES, make_tree

Ints = npt.NDArray[np.int64]
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
Ways = Mapping[str, Callable[[], Callable[..., Tensor]]]  # by name, what prepares a forward
REPEATS = 5
OURS = ("blocks", "flex", "chunks")


@dataclass(frozen=True)
class Stretches:
    """The stretches of packed trees that have no fork inside: sequences of queries, each with the keys of its path."""

    keys: Ints  # [K] tokens that are keys, stretch by stretch: first the path before it, then itself
    query_ends: Ints  # [S + 1] where each stretch's queries begin, and all end; queries are in packed order
    key_ends: Ints  # [S + 1] likewise in ``keys``

    @classmethod
    def of(cls, ends: Ints) -> Stretches:
        """Those of packed trees, ``ends`` [N] being one past every token's last descendant."""
        places = np.arange(len(ends))
        # A token is the only child of the one before it if both have the same last descendant.
        starts = [0, *(1 + np.flatnonzero(ends[:-1] != ends[1:])), len(ends)]
        keys = []
        for start, stop in itertools.pairwise(starts):
            before = places[:start]
            keys.append(np.concatenate([before[ends[:start] > start], places[start:stop]]))
        return cls(np.concatenate(keys), np.array(starts), np.cumsum([0, *map(len, keys)]))


def gathered(ends: Ints, where: torch.device) -> Attention:
    """Attention along trees by torch's variable-length kernel."""
    from torch.nn.attention.varlen import varlen_attn

    found = Stretches.of(ends)
    keys = torch.tensor(found.keys, device=where)
    sequences = [torch.tensor(ends_, dtype=torch.int32, device=where) for ends_ in (found.query_ends, found.key_ends)]
    longest = [int(np.diff(ends_).max()) for ends_ in (found.query_ends, found.key_ends)]

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        queries, states, values = (one[0].transpose(0, 1) for one in (query, key, value))
        options = {"window_size": (-1, 0), "enable_gqa": True}
        out = varlen_attn(queries, states[keys], values[keys], *sequences, *longest, **options)  # type: ignore[arg-type]
        assert isinstance(out, Tensor)
        return out[None]

    return attend


def causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of plain text."""
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True).transpose(1, 2)


def attention(batch: MicroBatch, heads: Heads) -> None:
    """Print the table of attention."""
    where, dtype = batch.ids.device, torch.bfloat16
    positions, ends = batch.positions.cpu().numpy(), batch.ends.cpu().numpy()
    scale = heads.size**-0.5

    def laid_out(layout: Layout) -> Attention:
        return lambda query, key, value: layout.attend(query, key, value, scale)

    def flash_attention_3() -> Attention:
        from torch.nn.attention import activate_flash_attention_impl

        activate_flash_attention_impl("FA3")  # for the whole process, so it comes last
        return gathered(ends, where)

    ways: dict[str, Callable[[], Callable[..., Tensor]]] = {
        "blocks": lambda: laid_out(plan_blocks(positions, ends, dtype, where)),
        "flex": lambda: laid_out(FlexPlanner(heads, dtype, 16384, print)(batch)),
        "gathered": lambda: gathered(ends, where),
        "causal": lambda: causal,
        "gathered, FlashAttention 3": flash_attention_3,
    }
    if where.type != "cuda":
        del ways["flex"]  # has no backward there

    torch.manual_seed(0)
    states = [
        torch.randn(1, many, len(batch.ids), heads.size, dtype=dtype, device=where, requires_grad=True)
        for many in (heads.queries, heads.keys, heads.keys)
    ]
    print(f"attention of one layer, {len(batch.ids):,} tokens, {heads}")
    table(ways, states)


def loss(tokens: int, tiny: bool, where: torch.device) -> None:
    """Print the table of the loss of ``tokens`` action tokens."""
    hidden_size, vocabulary = (64, 512) if tiny else (1024, 151936)
    torch.manual_seed(0)
    head = torch.nn.Linear(hidden_size, vocabulary, bias=False, dtype=torch.bfloat16, device=where)
    hidden = torch.randn(tokens, hidden_size, dtype=torch.bfloat16, device=where, requires_grad=True)
    targets = torch.randint(0, vocabulary, (tokens,), device=where)

    def chunks(hidden: Tensor, weight: Tensor) -> Tensor:
        return token_logprobs(head, hidden, targets, 1.0)[0]

    def cut_cross_entropy(hidden: Tensor, weight: Tensor) -> Tensor:
        from cut_cross_entropy import linear_cross_entropy  # type: ignore[import-not-found]

        # Without filter_eps: by default it leaves out gradients that are small.
        found = linear_cross_entropy(hidden, weight, targets, reduction="none", filter_eps=None)
        return -torch.as_tensor(found)

    print(f"loss of {tokens:,} tokens, {hidden_size:,} to {vocabulary:,}")
    table({"chunks": lambda: chunks, "cut-cross-entropy": lambda: cut_cross_entropy}, [hidden, head.weight])


def table(ways: Ways, inputs: list[Tensor]) -> None:
    """Print a line for each way: milliseconds, memory on a GPU, and how far its output is from that of the first way.

    Args:
        ways: ours first.
        inputs: of every forward; all of them get a gradient.
    """
    where, expected = inputs[0].device, None
    for name, prepare in ways.items():
        try:
            forward = prepare()
            output = forward(*inputs).detach().float()
            took = best_ms(forward, inputs)
        # What is not installed, or does not run on this machine, costs the others nothing; what is ours has to run.
        except Exception as error:
            if name in OURS:
                raise
            print(f"  {name:28}left out: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}")
            continue
        expected = output if expected is None else expected
        off = f"off by {float((output - expected).norm() / expected.norm()):.1e}" if name != "causal" else ""
        peak = f"{torch.cuda.max_memory_allocated(where) / 2**30:6.1f} GiB" if where.type == "cuda" else ""
        print(f"  {name:28}{took:9.2f} ms{peak}   {off}")


def best_ms(forward: Callable[..., Tensor], inputs: list[Tensor]) -> float:
    """Milliseconds of forward and backward, the best of a few after one that warms up."""
    where, best = inputs[0].device, float("inf")
    for repeat in range(REPEATS + 1):
        for one in inputs:
            one.grad = None
        if where.type == "cuda":
            torch.cuda.reset_peak_memory_stats(where)
        wait(where)
        start = time.perf_counter()
        torch.autograd.backward(forward(*inputs).float().sum())
        wait(where)
        best = min(best, time.perf_counter() - start) if repeat else best
    return 1e3 * best


def main() -> None:
    arguments, where = arguments_of(__doc__), device()
    shape = SHAPES[0].scaled(0.02) if arguments.tiny else SHAPES[0]
    tree = make_tree(shape, 151936)
    batch = collate([pack_tree(*Credited(tree, [[1.0] * len(path) for _, path in tree.trajectories()]))]).to(where)
    attention(batch, Heads(queries=4, keys=2, size=16) if arguments.tiny else Heads(queries=16, keys=8, size=128))
    loss(len(batch.targets), arguments.tiny, where)


if __name__ == "__main__":
    main()
