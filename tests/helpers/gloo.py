"""Two joined processes, forked from one that has torch loaded and has computed nothing, so that each start is cheap.

``python -m tests.helpers.gloo FILE MODULE FUNCTION …`` calls every function of the module in two joined processes and
writes what they returned to the file: gloo itself prints to standard output.
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
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.NamedTemporaryFile() as file:
        words = [sys.executable, "-W", "ignore", "-m", "tests.helpers.gloo", file.name, module, *functions]
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-4000:]
        returned: dict[str, list[Any]] = json.loads(file.read())
    return returned


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


def main(file: str, name: str, *functions: str) -> None:
    import torch.distributed  # noqa: F401  the import that all share

    module = importlib.import_module(name)
    returned = {}
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
            returned[function] = [json.loads(place.read_text()) if place.exists() else None for place in places]
    Path(file).write_text(json.dumps(returned))


if __name__ == "__main__":
    main(*sys.argv[1:])
