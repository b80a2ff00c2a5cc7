"""What a manifest says of data, index, packages and code is enough to tell two of them apart."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import gymnasium
import pytest

import at2po_agent
from at2po_agent import provenance
from at2po_agent.provenance import describe_code, differences, files_digest
from search_backend import EmbeddedIndex
from tests.helpers.env_doubles import QUESTIONS, TOWERS, FakeSearch, make_env
from tests.helpers.places import ROOT


def test_questions_index_and_dialect_have_their_digests() -> None:
    found = make_env(dialect="tags").manifest()
    assert found["dataset"]["questions"] == len(QUESTIONS)
    assert found["search"]["backend"] == "fake" and found["search"]["passages"] == len(TOWERS)
    assert found["dialect"]["name"] == "tags"
    assert all(re.fullmatch("[0-9a-f]{64}", found[part]["digest"]) for part in ("dataset", "search", "dialect"))
    assert found["search_at"] is None  # a backend that was passed in


def test_each_digest_changes_with_its_part_alone() -> None:
    def digests(**changed: object) -> list[str]:
        found = make_env(**{"dialect": "tags", **changed}).manifest()
        return [found[part]["digest"] for part in ("dataset", "search", "dialect")]

    first = digests()
    assert digests() == first
    for at, changed in enumerate(
        ({"questions": QUESTIONS[:2]}, {"search": FakeSearch(corpus="x")}, {"dialect": "chat"})
    ):
        assert [a != b for a, b in zip(first, digests(**changed), strict=True)] == [part == at for part in range(3)]


def test_the_address_of_an_index_is_said_where_there_is_one(tmp_path: Path) -> None:
    EmbeddedIndex.build(tmp_path / "index", TOWERS).close()
    uri = f"embedded:{tmp_path / 'index'}"
    env = gymnasium.make("AT2PO-HotpotQA-v0", split="demo", search=uri).unwrapped
    assert env.manifest()["search_at"] == uri  # type: ignore[arg-type]
    env.close()


def test_versions_are_those_that_run() -> None:
    found = describe_code(["pytest"])
    assert found["packages"] == {"at2po": at2po_agent.__version__, "pytest": pytest.__version__}
    assert found["python"] == platform.python_version()


def test_the_state_of_a_checkout_and_none_of_an_installed_package(tmp_path: Path) -> None:
    copied = tmp_path / "at2po_agent" / "provenance.py"
    copied.parent.mkdir()
    shutil.copy(provenance.__file__, copied)
    spec = importlib.util.spec_from_file_location("copied_provenance", copied)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def git(*words: str) -> str:
        line = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@h", *words]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    assert module.git_state() is None
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "all")
    assert module.git_state() == {"commit": git("rev-parse", "HEAD"), "clean": True}
    (tmp_path / "at2po_agent" / "new.py").touch()
    assert module.git_state() == {"commit": git("rev-parse", "HEAD"), "clean": False}
    assert module.describe_code([])["git"] == module.git_state()


def test_a_model_is_known_by_the_names_and_contents_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "a.bin").write_bytes(b"weights")
    (tmp_path / "folder").mkdir()
    by_hand = "".join(
        f"{name} {hashlib.sha256(data).hexdigest()}\n" for name, data in (("a.bin", b"weights"), ("b.json", b"{}"))
    )
    assert files_digest(tmp_path) == hashlib.sha256(by_hand.encode()).hexdigest()
    (tmp_path / "b.json").rename(tmp_path / "c.json")
    assert files_digest(tmp_path) != hashlib.sha256(by_hand.encode()).hexdigest()


def test_differences_are_named_by_their_place_and_long_values_cut() -> None:
    before = {"a": {"k": 3, "same": 1}, "ids": ["x"], "order": [1, 2], "digest": "a" * 64}
    now = {"a": {"same": 1, "new": True}, "ids": ["x", "y"], "order": [2, 1], "digest": "b" * 64}
    assert list(differences(before, now)) == [
        "a.k: 3 → none",
        "a.new: none → True",
        "ids: 1 → 2",
        "order: others",
        f"digest: {'a' * 16}… → {'b' * 16}…",
    ]
    assert list(differences(before, before)) == []


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
    printed = python("-m", "at2po_agent", "train", "--cfg", "quickstart", "--print-config")
    assert "path: builtin:microwiki" in printed
    code = (
        "import importlib.metadata as m, at2po_agent, at2po_agent.provenance as p\n"
        "print([d for d in m.distributions() if d.name == 'at2po'], at2po_agent.__file__)\n"
        "print(p.describe_code(['numpy'])['packages']['at2po'])"
    )
    assert python("-c", code) == f"[] {tmp_path / 'copy' / 'at2po_agent' / '__init__.py'}\n{version}\n"
