"""Which environments an evaluation names: ids, benchmarks and groups, each with the split it is judged on."""

from __future__ import annotations

from collections.abc import Sequence

from at2po_agent.structured import ConfigError
from at2po_env.registration import BENCHMARKS, default_data_dir, load_benchmark

GENERATED = "generated"  # worlds to train in, which no group but their own brings in
DEFAULT_SPLITS = ("test", "dev")


def env_ids(named: Sequence[str]) -> list[str]:
    """Gymnasium ids of what was named, in order and each once.

    A group (``multi-hop``, ``single-hop``) means the real benchmarks in it, ``all`` every one of them.

    Raises:
        ConfigError: nothing was named, or it is neither an id nor a benchmark nor a group.
    """
    real = {name: entry for name, entry in BENCHMARKS.items() if GENERATED not in entry.groups}
    groups = {group: [e.id for e in real.values() if group in e.groups] for e in real.values() for group in e.groups}
    groups["all"] = [entry.id for entry in real.values()]
    found: list[str] = []
    for name in named:
        if name in groups:
            found += groups[name]
        elif name in BENCHMARKS:
            found.append(BENCHMARKS[name].id)
        elif "-v" in name:  # a registered id; whether it exists is said when it is made
            found.append(name)
        else:
            known = ", ".join([*(entry.id for entry in BENCHMARKS.values()), *groups])
            raise ConfigError(f"envs (-e): there is no environment or group {name!r}; there are {known}")
    if not found:
        raise ConfigError("envs (-e): name an environment, such as AT2PO-HotpotQA-v0, or a group: " + ", ".join(groups))
    return list(dict.fromkeys(found))


def default_split(env_id: str) -> str:
    """``test`` if its file is installed, else ``dev`` if its is; else whichever of them the benchmark has."""
    name = next((name for name, entry in BENCHMARKS.items() if entry.id == env_id), None)
    if name is None:
        return DEFAULT_SPLITS[0]
    source = load_benchmark(name)
    there = source.available(default_data_dir())
    has = [split for split in DEFAULT_SPLITS if split in source.splits]
    return ([split for split in has if split in there] or has or source.splits)[0]
