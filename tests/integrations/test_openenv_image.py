"""Does what the Dockerfile says in a folder, as no test can build an image: it copies, installs, starts and asks."""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
import venv
from pathlib import Path

import pytest

pytest.importorskip("openenv")

from fastapi.testclient import TestClient

from at2po_env.integrations.openenv_client import TurnClient
from at2po_env.integrations.openenv_wire import TurnAction
from tests.helpers.places import ROOT
from tests.helpers.servers import free_port

pytestmark = pytest.mark.integration

FOLDER = ROOT / "integrations" / "openenv"
TOKEN = {"Authorization": "Bearer right"}


def instructions() -> list[tuple[str, str]]:
    """Words and arguments of the Dockerfile."""
    lines = (FOLDER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


def copy_context(to: Path) -> None:
    """What ``COPY .`` copies: everything is excluded, save what is named."""
    first, *more = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()[1:]
    named = [line.removeprefix("!") for line in more if line.startswith("!")]
    assert first == "*" and [line for line in more if not line.startswith("!")] == ["**/__pycache__"]
    for name in named:
        source, target = ROOT / name, to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


async def play(url: str):
    async with TurnClient(url, headers=TOKEN) as client:
        begun = await client.reset(index=0)
        return begun, await client.step(TurnAction(text="<answer> nobody</answer>"))


def test_the_steps_of_the_dockerfile_make_a_server_that_answers(tmp_path):
    steps = instructions()
    told = dict(steps)
    assert [word for word, _ in steps] == ["FROM", "WORKDIR", "COPY", "RUN", "ENV", "EXPOSE", "ENTRYPOINT", "CMD"]
    assert (told["WORKDIR"], told["COPY"], told["EXPOSE"]) == ("/app", ". /app", "8000")
    copy_context(tmp_path / "app")

    # Its packages are those of this environment, which comes from the same lock: they are not downloaded again.
    venv.create(tmp_path / "venv", with_pip=True)
    (own,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (own / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    where = {**os.environ, "PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}", "AT2PO_TOKEN": "right"}
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        where.pop(name, None)
    where |= {name: f"{tmp_path}{path}" for name, path in (one.split("=") for one in shlex.split(told["ENV"]))}
    done = subprocess.run(
        ["sh", "-ec", told["RUN"]], cwd=tmp_path / "app", env=where, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    installed = re.search(r"Successfully installed (.*)", done.stdout)[1].split()
    assert {one.rpartition("-")[0] for one in installed} <= {"at2po", "setuptools"}  # everything else is as locked
    assert (own / "at2po_env" / "__init__.py").is_file()

    port = free_port()
    words = [*json.loads(told["ENTRYPOINT"]), *json.loads(told["CMD"]), "--port", str(port)]
    server = subprocess.Popen(words, cwd=tmp_path, env=where, stdout=subprocess.PIPE, text=True)
    try:
        assert re.fullmatch(rf"AT2PO-MicroWiki-v0: .* at ws://0.0.0.0:{port}/ws\n", server.stdout.readline())
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/health", timeout=60)
        with urllib.request.urlopen(urllib.request.Request(f"{url}/health", headers=TOKEN), timeout=60) as answer:
            assert json.load(answer)["status"] == "healthy"
        begun, ended = asyncio.run(asyncio.wait_for(play(url), 60))
    finally:
        server.terminate()
        server.communicate(timeout=20)
    assert begun.observation.text and ended.done and ended.reward == 0.0


def test_the_app_that_openenv_yaml_names_asks_for_the_token(monkeypatch):
    monkeypatch.setenv("AT2PO_TOKEN", "right")
    named = re.search(r"^app: (\w+):(\w+)$", (FOLDER / "openenv.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    client = TestClient(runpy.run_path(str(FOLDER / f"{named[1]}.py"))[named[2]])
    assert [client.get("/health", headers=headers).status_code for headers in ({}, TOKEN)] == [401, 200]


def test_openenv_finds_nothing_wrong_with_the_folder():
    program = Path(sys.executable).with_name("openenv")
    done = subprocess.run(
        [program, "validate", str(FOLDER), "--level", "static"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
