"""What each algorithm's update costs on one batch: the same trees for all six, relative to GRPO in the same run.

    python -m benchmarks.six_updates [--repeats 5]

The trees are those of ``benchmarks.packed_update`` (22 leaves, repeating turns), with random rewards, credited by each
algorithm. Tree-GRPO's KL term forwards a reference model and AEPO's advantage needs a first forward for the entropies;
the others differ in a few operations on rows. One thread; seconds are of the processor. Memory is the process's
high-water mark during the update above what it held before (Linux), with AdamW's state already made.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from at2po_agent.method.algorithms import ALGORITHMS, Algorithm, build
from at2po_agent.update.packing import Credited
from at2po_agent.update.schedule import UpdateConfig
from at2po_agent.update.updater import Updater
from benchmarks.packed_update import QUESTIONS, SHAPES, VOCAB, make_batch

RESULTS = Path(__file__).parent / "results" / "six_updates.txt"
SHAPE = "22-leaf trees"


def batch_of(algorithm: Algorithm) -> list[Credited]:
    """The same trees and rewards for every algorithm."""
    rng = np.random.default_rng(1)
    credited = []
    for tree, _ in make_batch(SHAPES[SHAPE], alternatives=4):
        for leaf in tree.leaves:
            tree[leaf].reward = float(rng.integers(-1, 2))
        credited.append(Credited(tree, algorithm.credit(tree, algorithm.shaping(tree))))
    return credited


def memory(line: str) -> float:
    """A line of this process's status, MB: VmRSS, or VmHWM since ``forget_peak``."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(model: PreTrainedModel, max_tokens: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Median processor seconds and largest memory in MB of an update, by algorithm; the six take turns."""
    config = UpdateConfig(lr=1e-6, mini_batch=QUESTIONS, max_tokens=max_tokens)
    seconds: dict[str, list[float]] = {name: [] for name in ALGORITHMS}
    peaks = dict.fromkeys(ALGORITHMS, 0.0)
    algorithms = {name: build(name).opened(vocab_size=VOCAB, max_response_tokens=256) for name in ALGORITHMS}
    batches = {name: batch_of(algorithm) for name, algorithm in algorithms.items()}
    reference = copy.deepcopy(model).requires_grad_(False)
    updaters = {
        name: Updater(copy.deepcopy(model), algorithm.objective, config, reference=reference)
        for name, algorithm in algorithms.items()
    }
    for repeat in range(repeats + 1):  # the first warms up and makes the optimiser's state
        for name, updater in updaters.items():
            forget_peak()
            before, start = memory("VmRSS"), time.process_time()
            updater.update(batches[name])
            if repeat:
                seconds[name].append(time.process_time() - start)
                peaks[name] = max(peaks[name], memory("VmHWM") - before)
    return {name: (statistics.median(seconds[name]), peaks[name]) for name in ALGORITHMS}


def main() -> None:
    parser = argparse.ArgumentParser(description="The update of six algorithms on one batch.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=2048)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = {"vocab_size": VOCAB, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True}
    model = Qwen3ForCausalLM(Qwen3Config(**size, **heads, bos_token_id=None, eos_token_id=None)).eval()
    found = measure(model, arguments.max_tokens, arguments.repeats)
    lines = [
        f"torch {torch.__version__}, one thread, {model.num_parameters():,} parameters, {QUESTIONS} "
        f"{SHAPE}, at most {arguments.max_tokens} tokens a forward, median of {arguments.repeats}",
        f"{'algorithm':10} {'seconds':>8} {'to grpo':>8} {'peak MB':>8} {'to grpo':>8}",
    ]
    grpo = found["grpo"]
    for name, (seconds, peak) in found.items():
        lines.append(f"{name:10} {seconds:8.3f} {seconds / grpo[0]:7.2f}x {peak:8.1f} {peak / grpo[1]:7.2f}x")
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
