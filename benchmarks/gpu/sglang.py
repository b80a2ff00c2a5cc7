"""Training through a server that the run starts itself: weights by way of the disk, its memory released in the update.

The server is SGLang in this installation, or in the folder that ``AT2PO_SGLANG`` names, whose packages the trainer does
not see: one that ``install.sh`` unpacked.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.machine import arguments_of, device

ROOT = Path(__file__).resolve().parents[2]
SERVER = (
    "{python} -W ignore -m sglang.launch_server --model-path {model} --host {host} --port {port} --dtype bfloat16 "
    "--attention-backend triton --sampling-backend pytorch --grammar-backend none --skip-server-warmup "
    "--disable-flashinfer-autotune --max-running-requests 64"
)


def environment_of(folder: Path) -> dict[str, str]:
    """What the folder's ``env.sh`` sets."""
    command = f"source {folder}/env.sh && env -0"
    words = ["bash", "-c", command]
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(words, capture_output=True, text=True, check=True, env=given).stdout
    new = dict(line.split("=", 1) for line in found.split("\0") if "=" in line)
    return {name: value for name, value in new.items() if given.get(name) != value and name != "_"}


def main() -> int:
    arguments = arguments_of(__doc__)
    folder = os.environ.get("AT2PO_SGLANG")
    if device().type != "cuda" or not (folder or importlib.util.find_spec("sglang")):
        print("left out: it needs a GPU, and SGLang here or in the folder that AT2PO_SGLANG names")
        return 0
    code = 0
    for release in (False, True):
        saver = ["--enable-memory-saver"] if release else []
        run = ROOT / "runs" / f"gpu-sglang-{os.getpid()}-{int(release)}"
        launch = {
            "command": SERVER,
            "arguments": ["--mem-fraction-static", "0.4", *saver],
            "environment": environment_of(Path(folder)) if folder else {},
        }
        overrides = ["engine.sync=disk", f"engine.release_memory={str(release).lower()}", "train.steps=3"]
        overrides += [f"run_dir={run}", "eval.questions=50", f"train.max_seconds={arguments.seconds / 4:.0f}"]
        overrides += [f"engine.launch.{name}={json.dumps(value)}" for name, value in launch.items()]
        print(f"release_memory={release}")
        words = [sys.executable, "-W", "ignore", "-m", "at2po_agent", "train", "--cfg", "microwiki_sglang", *overrides]
        code = subprocess.run(words, cwd=ROOT).returncode or code
    return code


if __name__ == "__main__":
    sys.exit(main())
