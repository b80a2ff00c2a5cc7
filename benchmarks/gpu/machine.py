"""What machine this is."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform

import torch


def arguments_of(description: str | None) -> argparse.Namespace:
    """The arguments of a part: ``seconds``, ``tiny``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=600.0, help="that it may take")
    parser.add_argument("--tiny", action="store_true", help="at a size that a CPU runs in seconds")
    return parser.parse_args()


def device() -> torch.device:
    """The GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Its name, for a file."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU-{platform.machine()}"


def wait(where: torch.device) -> None:
    """Until everything that was started on a device is done."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def main() -> None:
    import transformers

    arguments_of(__doc__)
    print(f"{device_name()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        capability = f"{found.major}.{found.minor}"
        print(f"{found.total_memory / 2**30:.0f} GiB, capability {capability}, CUDA {torch.version.cuda}")
    for name in ("triton", "sglang", "peft", "pytest", "tantivy", "openai", "elasticsearch"):
        print(f"{name}: {'there' if importlib.util.find_spec(name) else 'missing'}")


if __name__ == "__main__":
    main()
