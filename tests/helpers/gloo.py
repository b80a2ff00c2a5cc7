"""Two joined processes, forked from one that has torch loaded and has computed nothing, so that each start is cheap.

``python -m tests.helpers.gloo MODULE FUNCTION …`` calls every function of the module in two joined processes.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from tests.helpers.places import ROOT
from tests.helpers.servers import free_port

COUNT = 2


def outcomes(module: str, *functions: str) -> dict[str, list[Any]]:
    """What each function, called with its ``Processes``, returned as JSON or raised as words, by rank."""
    words = [sys.executable, "-W", "ignore", "-m", "tests.helpers.gloo", module, *functions]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return found


def _run(work: Any, rank: int, port: int, place: Path) -> None:
    """Be one of the processes; one that is killed leaves nothing in its place."""
    from at2po_agent.update.processes import joined

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(COUNT)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        with joined() as processes:
            said = work(processes)
    except Exception as error:
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}"
    place.write_text(json.dumps(said))


def main(name: str, *functions: str) -> None:
    import torch.distributed  # noqa: F401  the import that all share

    module = importlib.import_module(name)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for function in functions:
            port, places = free_port(), [Path(folder) / f"{function}-{rank}" for rank in range(COUNT)]
            children = []
            for rank, place in enumerate(places):
                children.append(os.fork())
                if children[-1] == 0:
                    _run(getattr(module, function), rank, port, place)
                    os._exit(0)
            for child in children:
                os.waitpid(child, 0)
            found[function] = [json.loads(place.read_text()) if place.exists() else None for place in places]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
