"""The packed update beside unrolled paths: forward and backward of one tree, with the same head and checkpointing.

Qwen3-0.6B's shape with random weights, bfloat16 autocast, gradient checkpointing. Unrolled are the paths four at a
time, padded on the right, with the causal kernel and no mask. The bound is the ratio of the tokens. TFLOP/s are
8 · parameters · unique tokens over the packed time, the recomputed forward included.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from at2po_agent.method.tree import ROOT, TurnTree
from at2po_agent.update.attention_flex import graphs
from at2po_agent.update.logprobs import packed, prepare_model, token_logprobs
from at2po_agent.update.packing import Credited, MicroBatch, collate, pack_tree
from at2po_agent.update.schedule import UpdateConfig
from at2po_agent.update.tree_attention import Planner, planner_of
from benchmarks.gpu.machine import arguments_of, device, wait
from benchmarks.gpu.trees import SHAPES, make_tree

TOGETHER = 4  # paths
REPEATS = 5


def make_model(tiny: bool, where: torch.device) -> PreTrainedModel:
    torch.manual_seed(0)
    size = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    if not tiny:
        size = {"vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28}
        heads = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
    config = Qwen3Config(**size, **heads, tie_word_embeddings=True, max_position_embeddings=40960)
    config._attn_implementation = "sdpa"
    with where:
        model = Qwen3ForCausalLM(config)
    prepare_model(model)
    model.activation_checkpointing_enable({"use_reentrant": False})
    return model.train()


def paths_of(tree: TurnTree) -> list[tuple[list[int], list[int]]]:
    """Ids of every path, and the places whose next token the policy sampled."""
    found = []
    for _, path in tree.trajectories():
        ids, sampled = list(tree[ROOT].observation), list[int]()
        for node in (tree[index] for index in path):
            sampled += range(len(ids) - 1, len(ids) + len(node.action) - 1)
            ids += (*node.action, *node.observation)
        found.append((ids, sampled))
    return found


def unrolled_loss(model: PreTrainedModel, tree: TurnTree) -> list[Callable[[], Tensor]]:
    """The sum of all log-probabilities, of a few paths at a time."""
    paths = sorted(paths_of(tree), key=lambda path: len(path[0]))

    def loss(some: list[tuple[list[int], list[int]]]) -> Tensor:
        where, length = model.device, max(len(ids) for ids, _ in some)
        ids = torch.tensor([row + [0] * (length - len(row)) for row, _ in some], device=where)
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)
        places = torch.tensor([row * length + i for row, (_, at) in enumerate(some) for i in at], device=where)
        targets = ids.flatten()[places + 1]
        return token_logprobs(model.get_output_embeddings(), hidden[places], targets, 1.0)[0].sum()

    groups = [paths[i : i + TOGETHER] for i in range(0, len(paths), TOGETHER)]
    return [lambda some=some: loss(some) for some in groups]  # type: ignore[misc]


def packed_loss(model: PreTrainedModel, batch: MicroBatch, plan: Planner) -> list[Callable[[], Tensor]]:
    return [lambda: packed(model, batch, 1.0, plan(batch))[0].index_select(0, batch.rows).sum()]


def measured(
    model: PreTrainedModel, losses: list[Callable[[], Tensor]], deadline: float
) -> tuple[float, float, Tensor]:
    """Seconds (the best), GiB above the weights, and the gradient of the first layer's keys."""
    where, best = model.device, float("inf")
    # The first one warms up.
    for repeat in range(REPEATS + 1):
        model.zero_grad(set_to_none=True)
        wait(where)
        if where.type == "cuda":
            torch.cuda.reset_peak_memory_stats(where)
        held = torch.cuda.memory_allocated(where) if where.type == "cuda" else 0
        start = time.perf_counter()
        for loss in losses:
            with torch.autocast(where.type, torch.bfloat16):
                value = loss()
            torch.autograd.backward(value)
        wait(where)
        best = min(best, time.perf_counter() - start) if repeat else best
        if repeat and time.monotonic() > deadline:
            break
    peak = torch.cuda.max_memory_allocated(where) - held if where.type == "cuda" else 0
    gradient = model.base_model.layers[0].self_attn.k_proj.weight.grad
    return best, peak / 2**30, gradient.float().clone()


def main() -> None:
    arguments, where = arguments_of(__doc__), device()
    end = time.monotonic() + arguments.seconds
    model = make_model(arguments.tiny, where)
    print(f"{model.num_parameters() / 1e6:.0f} M parameters, {TOGETHER} paths at a time unrolled, best of {REPEATS}")
    plan = planner_of(model, UpdateConfig(max_tokens=128 if arguments.tiny else 16384), where, print)
    head = (
        "tree",
        "unrolled",
        "unique",
        "plan ms",
        "unrolled s",
        "GiB",
        "packed s",
        "GiB",
        "speed-up",
        "bound",
        "of it",
    )
    print("{:28}{:>9}{:>8}{:>9}{:>12}{:>6}{:>10}{:>6}{:>10}{:>7}{:>7}".format(*head), "TFLOP/s  gradients differ by")
    for number, shape in enumerate(SHAPES):
        tree = make_tree(shape.scaled(0.02) if arguments.tiny else shape, model.config.vocab_size)
        credited = Credited(tree, [[1.0] * len(path) for _, path in tree.trajectories()])
        batch = collate([pack_tree(*credited)]).to(where)
        tokens, unique = sum(len(ids) for ids, _ in paths_of(tree)), len(batch.ids)
        # Half of what is left to each way, of each shape that is left.
        share = (end - time.monotonic()) / (2 * (len(SHAPES) - number))
        slow, slow_gib, expected = measured(model, unrolled_loss(model, tree), time.monotonic() + share)
        fast, fast_gib, found = measured(model, packed_loss(model, batch, plan), time.monotonic() + share)
        wait(where)
        start = time.perf_counter()
        plan(batch)
        wait(where)
        planned = 1e3 * (time.perf_counter() - start)
        bound, speed = tokens / unique, slow / fast
        rate = 8 * model.num_parameters() * unique / fast / 1e12
        error = float((found - expected).norm() / expected.norm())
        print(
            f"{shape.name:28}{tokens:9,}{unique:8,}{planned:9.1f}{slow:12.3f}{slow_gib:6.1f}{fast:10.3f}{fast_gib:6.1f}"
            f"{speed:9.2f}x{bound:6.2f}x{speed / bound:7.2f} {rate:8.1f}  {error:.1e}"
        )
    print(f"{graphs()} graphs compiled")


if __name__ == "__main__":
    main()
