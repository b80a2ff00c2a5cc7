"""Seconds until a real SGLang server samples with new weights, by way of sending them.

    python -m benchmarks.weight_sync http://127.0.0.1:30000

The server must serve builtin:microwiki (0.9 M parameters), so this is the cost of the calls, not of the bytes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from at2po_agent.policy.loading import load_policy
from at2po_agent.policy.paths import resolve_policy
from at2po_agent.policy.sglang_admin import SglangAdmin
from at2po_agent.policy.weight_sync import DiskSync, DistributedSync, TensorSync, WeightSync

ROUNDS = 9


def measure(sync: WeightSync, server: SglangAdmin, name: str) -> list[float]:
    model, _ = load_policy(resolve_policy("builtin:microwiki"))
    seconds = []
    for i in range(ROUNDS + 1):
        started = perf_counter()
        sync.take(model, f"{name}-{i}")
        sync.send(server)
        seconds.append(perf_counter() - started)
        if server.weight_version() != f"{name}-{i}":
            raise SystemExit(f"{name}: the server has other weights")
    sync.close()
    return seconds


def main() -> None:
    server = SglangAdmin(sys.argv[1])
    print(f"median of {ROUNDS} updates in ms (the first one, which joins a group, apart)")
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, WeightSync] = {
            "disk": DiskSync(Path(folder)),
            "tensors": TensorSync(),
            "distributed": DistributedSync(),
        }
        for name, sync in ways.items():
            first, *others = measure(sync, server, name)
            print(f"{name:12} {1000 * median(others):8.1f}   first {1000 * first:8.1f}")


if __name__ == "__main__":
    main()
