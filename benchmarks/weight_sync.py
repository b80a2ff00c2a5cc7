"""Seconds until a real SGLang server has new weights, by way of sending them.

    python -m benchmarks.weight_sync URL MODEL [URL MODEL …]

MODEL is what the server at URL serves: ``builtin:microwiki`` or a Hugging Face folder. A time is that of a trainer's
``publish``: the weights are taken from the module and held, generation is paused, they are sent and loaded, the cache
is flushed, and generation goes on. A disk means the one that holds the temporary folder, which is mostly its cache.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from transformers.utils import logging

from at2po_agent.policy.loading import load_policy, resolve_policy
from at2po_agent.policy.sglang.admin import SglangAdmin
from at2po_agent.policy.sglang.weight_sync import DiskSync, DistributedSync, TensorSync, WeightSync

ROUNDS = 9
RESULTS = Path(__file__).parent / "results" / "weight_sync.txt"


def seconds(sync: WeightSync, server: SglangAdmin, model: Any, name: str) -> list[float]:
    """Of every update."""
    found = []
    for i in range(ROUNDS + 1):
        started = perf_counter()
        sync.take(model, f"{name}-{i}")
        sync.send(server)
        found.append(perf_counter() - started)
        if server.weight_version() != f"{name}-{i}":
            raise SystemExit(f"{name}: the server has other weights")
    sync.close()
    return found


def table(url: str, path: str) -> list[str]:
    server, (model, _) = SglangAdmin(url), load_policy(resolve_policy(path))
    size = sum(parameter.nbytes for parameter in model.parameters())
    lines = [f"{Path(path).name}: {model.num_parameters() / 1e6:.1f} M parameters, {size / 1e6:.1f} MB"]
    lines.append("way             median ms   range ms          first ms")
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, WeightSync] = {
            "disk": DiskSync(Path(folder, "weights")),
            "tensors": TensorSync(),
            "distributed": DistributedSync(),
        }
        for name, sync in ways.items():
            first, *others = (1000 * one for one in seconds(sync, server, model, name))
            lines.append(f"{name:14s} {median(others):10.1f}   {min(others):7.1f} to {max(others):7.1f} {first:10.1f}")
    return lines


def main(words: Sequence[str]) -> None:
    logging.disable_progress_bar()
    lines = [f"{ROUNDS} updates by each way, after a first one, which joins the group and starts helpers"]
    for url, path in zip(words[::2], words[1::2], strict=True):
        lines += ["", *table(url, path)]
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
