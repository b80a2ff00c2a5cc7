"""Provenance for manifests: data, index, dialect, packages and code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from at2po_agent import __version__


def describe_code(packages: Sequence[str]) -> dict[str, Any]:
    """Versions of this package, of ``packages`` and of Python, and the state of the checkout."""
    versions = {"at2po": __version__, **{name: importlib.metadata.version(name) for name in packages}}
    return {"packages": versions, "python": platform.python_version(), "git": git_state()}


def git_state() -> dict[str, Any] | None:
    """Commit and cleanliness of the checkout that this code runs from; None where it runs from an installed wheel."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False).stdout

    return {"commit": git("rev-parse", "HEAD").strip(), "clean": not git("status", "--porcelain").strip()}


def differences(before: Any, now: Any, at: str = "") -> Iterator[str]:
    """Every entry that differs between two manifests of plain JSON values, as ``limits.k: 3 → 1``.

    Args:
        before: the one that was stored.
        now: the one of this process.
        at: the place of both, named before each entry.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from differences(before.get(key), now.get(key), f"{at}.{key}" if at else key)
    elif isinstance(before, list) and isinstance(now, list):
        if before != now:
            here = f"{len(before)} → {len(now)}" if len(before) != len(now) else "others"
            yield f"{at}: {here}"
    elif before != now:
        yield f"{at}: {_short(before)} → {_short(now)}"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:16]}…"


def files_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a model directory's files."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with path.open("rb") as file:
            total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
