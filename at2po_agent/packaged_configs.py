"""Configurations that come with the package and are found by name, as in ``--cfg quickstart``.

``configs/`` has a folder for each kind: whole runs, what a run is composed of (models, tasks, algorithms, settings,
ablations), warm starts, studies and evaluations. The name of a file is its name here, so it is unique.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from at2po_agent.errors import ConfigError

FOLDER = Path(__file__).resolve().parent / "configs"

Files = str | Path | Sequence[str | Path] | None
"""Configuration files, each a path or the name of a packaged one; later ones are laid over earlier ones."""


def packaged() -> dict[str, Path]:
    """Every packaged configuration by name, folder by folder."""
    return {path.stem: path for path in sorted(FOLDER.glob("*/*.yaml"), key=lambda path: (path.parent, path.stem))}


def locate(name: str | Path, folder: Path = Path()) -> Path:
    """The file that ``name`` stands for: a path from ``folder`` where it is a file, else a packaged configuration.

    Raises:
        ConfigError: it is neither, and no folder, which whoever reads it refuses.
    """
    path = folder / name
    if path.exists() and not path.is_dir():
        return path
    known = packaged()
    if str(name) in known:
        return known[str(name)]
    if path.is_dir():
        return path
    if path.suffix == ".yaml" or path.name != str(name):
        hint = f"; the packaged one of this name is --cfg {path.stem}" if path.stem in known else ""
        raise ConfigError(f"{path}: no such file{hint}")
    alike = difflib.get_close_matches(path.name, known, n=1)
    hint = f"did you mean {alike[0]}? " if alike else ""
    raise ConfigError(
        f"there is no file and no packaged configuration {str(name)!r}; {hint}`at2po-agent configs` lists them"
    )


def locate_all(files: Files) -> tuple[Path, ...]:
    """The paths of files, as ``locate`` finds each.

    Raises:
        ConfigError: one of them is nowhere.
    """
    if files is None:
        return ()
    return tuple(locate(file) for file in ([files] if isinstance(files, str | Path) else files))


def summary(path: Path) -> str:
    """The first line of a configuration, a comment that says what it is."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
