"""The packed update beside the unrolled one: the same trees, loss and gradient, in one run.

    python -m benchmarks.packed_update [--repeats 5] [--threads 2]

Short turns are those of the quick start: a prompt of 14 tokens, at most three turns, 45–70 tokens a path; ``long`` ones
are 14 times as long, as of a model that thinks and reads passages: a 22-leaf tree then has more than 8,000 tokens.
``repeats`` draws turns from a few per context, as a trained policy does; ``distinct`` makes every sampled turn unlike
every other. Both ways use the same model, objective and token budget; the unrolled way forwards every path on its own,
padded, with the plain causal kernel and no mask. The last lines say what the packed update holds at its peak.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from at2po_agent.method.objective import ATPO, LossInputs
from at2po_agent.method.tree import ROOT, TurnNode, TurnTree
from at2po_agent.update import logprobs
from at2po_agent.update.packing import Credited, MicroBatch, PackedTree, collate, pack_tree, plan

VOCAB = 512
QUESTIONS = 32
LONG = 14  # times as long
# Chains, branches a round, rounds.
SHAPES = {"22-leaf trees": (10, 6, 2), "8 chains": (8, 0, 0), "16 chains": (16, 0, 0)}
RESULTS = Path(__file__).parent / "results" / "packed_update.txt"


def make_tree(
    rng: np.random.Generator, chains: int, branches: int, rounds: int, alternatives: int, scale: int = 1
) -> TurnTree:
    """A tree of search turns; at every context the policy has ``alternatives`` turns to choose from."""

    def ids(source: np.random.Generator, low: int, high: int) -> tuple[int, ...]:
        return tuple(int(i) for i in source.integers(0, VOCAB, source.integers(low * scale, high * scale)))

    tree = TurnTree(ids(rng, 13, 16), question_id="made")

    def roll(parent: int, group: int) -> None:
        while True:
            depth = tree[parent].depth
            choice = (
                min(int(rng.geometric(0.6)) - 1, alternatives - 1) if alternatives < VOCAB else int(rng.integers(2**31))
            )
            turn = np.random.default_rng([*tree.prompt_ids(parent), choice])  # the same choice is the same turn
            end = depth == 2 or (depth == 1 and turn.random() < 0.4)
            action = ids(turn, 6, 11)
            observation = () if end else ids(turn, 10, 18)
            node = TurnNode(parent, group, depth + 1, action, (-1.0,) * len(action), observation, leaf=end)
            parent = tree.add(node)
            if end:
                return

    for group in range(chains):
        roll(ROOT, group)
    for _ in range(rounds):
        for pick in rng.choice(tree.inner_turns(), branches):
            roll(tree[int(pick)].parent, tree[int(pick)].group)
    return tree


def make_batch(shape: tuple[int, int, int], alternatives: int, scale: int = 1) -> list[Credited]:
    rng = np.random.default_rng(0)
    trees = [make_tree(rng, *shape, alternatives, scale) for _ in range(max(1, QUESTIONS // scale**2))]
    return [
        Credited(t, [[float(a) for a in rng.normal(size=len(path))] for _, path in t.trajectories()]) for t in trees
    ]


def loss_inputs(rows: MicroBatch, logp: torch.Tensor, packed: Sequence[PackedTree]) -> LossInputs:
    return LossInputs(
        logp=logp,
        logp_old=logp.detach(),
        advantage=rows.advantage.to(logp.dtype),
        sequence_ids=rows.sequence_ids,
        turn_ids=rows.turn_ids,
        n_sequences=sum(tree.n_sequences for tree in packed),
        n_tokens=sum(tree.n_tokens for tree in packed),
    )


def packed_gradient(model: PreTrainedModel, batch: Sequence[Credited], max_tokens: int) -> None:
    packed = [pack_tree(*credited) for credited in batch]
    for members in plan([len(tree.ids) for tree in packed], max_tokens):
        micro = collate([packed[i] for i in members])
        logp = logprobs.packed(model, micro, 1.0)[0].index_select(0, micro.rows)
        torch.autograd.backward(ATPO()(loss_inputs(micro, logp, packed)).loss)


def unrolled_gradient(model: PreTrainedModel, batch: Sequence[Credited], max_tokens: int) -> None:
    packed = [pack_tree(*credited) for credited in batch]  # for the rows only; it is charged to both ways
    longest = max(path_tokens(tree) // len(tree.leaves) for tree, _ in batch) + 10
    per_forward = max(1, max_tokens // (longest * max(len(tree.leaves) for tree, _ in batch)))
    for i in range(0, len(batch), per_forward):
        some = range(i, min(i + per_forward, len(batch)))
        micro = collate(packed[some.start : some.stop])
        logp, _ = logprobs.unrolled(model, [batch[j].tree for j in some], 1.0)
        torch.autograd.backward(ATPO()(loss_inputs(micro, logp, packed)).loss)


def path_tokens(tree: TurnTree) -> int:
    return sum(len(tree.prompt_ids(tree[leaf].parent)) + len(tree[leaf].action) for leaf in tree.leaves)


def timed(model: PreTrainedModel, gradient: Callable[[], None]) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    start = time.perf_counter()
    gradient()
    seconds = time.perf_counter() - start
    return seconds, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def measure(model: PreTrainedModel, name: str, alternatives: int, scale: int, max_tokens: int, repeats: int) -> str:
    batch = make_batch(SHAPES[name], alternatives, scale)
    unrolled = sum(path_tokens(tree) for tree, _ in batch)
    unique = sum(len(pack_tree(*credited).ids) for credited in batch)
    ways = (unrolled_gradient, packed_gradient)
    times: list[list[float]] = [[], []]
    gradients: list[torch.Tensor] = []
    for repeat in range(repeats + 1):  # the first warms up; the two ways take turns
        found = [timed(model, lambda way=way: way(model, batch, max_tokens)) for way in ways]  # type: ignore[misc]
        if repeat:
            for way in (0, 1):
                times[way].append(found[way][0])
        gradients = [gradient for _, gradient in found]
    error = float((gradients[0] - gradients[1]).norm() / gradients[0].norm())
    if not error < 1e-5:
        raise SystemExit(f"{name}: packed and unrolled gradients differ by {error:.1e}")
    slow, fast = (statistics.median(seconds) for seconds in times)
    kind = ("repeats" if alternatives < VOCAB else "distinct") + (" long" if scale > 1 else "")
    return (
        f"{name:14} {kind:13} {unrolled:7d} {unique:7d} {unrolled / unique:6.2f} "
        f"{slow:10.3f} {fast:8.3f} {slow / fast:8.2f}x {error:10.1e}"
    )


def make_model() -> PreTrainedModel:
    torch.manual_seed(0)
    size = {"vocab_size": VOCAB, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True}
    model: PreTrainedModel = Qwen3ForCausalLM(Qwen3Config(**size, **heads, bos_token_id=None, eos_token_id=None)).eval()
    logprobs.prepare_model(model)
    return model


def memory(checkpointing: bool) -> str:
    """Peak resident memory above the model's own during the update of one long tree, per packed token."""
    model = make_model()
    batch = make_batch(SHAPES["22-leaf trees"], VOCAB, LONG)
    tokens = len(pack_tree(*batch[0]).ids)
    if checkpointing:
        model.train()
        model.activation_checkpointing_enable({"use_reentrant": False})
    packed_gradient(model, make_batch(SHAPES["8 chains"], 4), 64)  # libraries and gradients are there
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident("VmRSS")
    packed_gradient(model, batch, tokens)
    peak = (resident("VmHWM") - before) / tokens
    kind = "with gradient checkpointing" if checkpointing else "everything kept"
    return f"memory of one tree of {tokens:,} packed tokens, {kind}: {peak / 1024:.1f} KiB a token"


def resident(field: str) -> int:
    """Bytes of this process, as the kernel counts them."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def main() -> None:
    parser = argparse.ArgumentParser(description="Packed against unrolled update.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=2048)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = make_model()
    lines = [
        f"torch {torch.__version__}, {arguments.threads} threads, {model.num_parameters():,} parameters, "
        f"{QUESTIONS} questions, at most {arguments.max_tokens} tokens a forward, median of {arguments.repeats}",
        f"{'rollout':14} {'turns':13} {'tokens':>7} {'unique':>7} {'ratio':>6} "
        f"{'unrolled s':>10} {'packed s':>8} {'speed-up':>9} {'grad. err':>10}",
    ]
    print("\n".join(lines), flush=True)
    for alternatives, scale in ((4, 1), (VOCAB, 1), (VOCAB, LONG)):
        for name in SHAPES:
            lines.append(measure(model, name, alternatives, scale, arguments.max_tokens, arguments.repeats))
            print(lines[-1], flush=True)
    for checkpointing in (False, True):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:  # its peak is of this alone
            lines.append(fresh.submit(memory, checkpointing).result())
        print(lines[-1], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
