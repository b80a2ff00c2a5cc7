"""Versions, the checkout and file digests of a manifest; and the code where it is not installed."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import at2po_agent
from at2po_agent.provenance import describe_code, files_digest
from tests.helpers.places import CONFIGS, ROOT


def test_the_code_is_described_by_versions_and_the_checkout() -> None:
    described = describe_code(["numpy"])
    assert described["packages"] == {"at2po": at2po_agent.__version__, "numpy": importlib.metadata.version("numpy")}
    assert described["python"].startswith("3.")


def test_a_directorys_digest_follows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = files_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = files_digest(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, files_digest(tmp_path)}) == 3


@pytest.fixture
def source(tmp_path: Path) -> dict[str, str]:
    """The environment variables of a process that has a plain copy of the source, and no at2po installed."""
    for package in ("search_backend", "at2po_env", "envs", "at2po_agent"):
        shutil.copytree(ROOT / package, tmp_path / "copy" / package, ignore=shutil.ignore_patterns("__pycache__"))
    others = tmp_path / "others"
    others.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "at2po" not in path.name and path.suffix != ".pth":
            (others / path.name).symlink_to(path)
    return {**os.environ, "PYTHONPATH": f"{tmp_path / 'copy'}:{others}"}


def test_a_plain_copy_of_the_source_runs_without_installation(source: dict[str, str], tmp_path: Path) -> None:
    def python(*words: object) -> str:
        line = [sys.executable, "-S", *map(str, words)]
        done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=source)
        assert done.returncode == 0, done.stderr
        return done.stdout

    version = at2po_agent.__version__
    assert python("-m", "at2po_agent", "--version") == f"at2po-agent {version}\n"
    printed = python("-m", "at2po_agent", "train", "--cfg", CONFIGS / "quickstart.yaml", "--print-config")
    assert "path: builtin:microwiki" in printed
    code = (
        "import importlib.metadata as m, at2po_agent, at2po_agent.provenance as p\n"
        "print([d for d in m.distributions() if d.name == 'at2po'], at2po_agent.__file__)\n"
        "print(p.describe_code(['numpy'])['packages']['at2po'])"
    )
    assert python("-c", code) == f"[] {tmp_path / 'copy' / 'at2po_agent' / '__init__.py'}\n{version}\n"
