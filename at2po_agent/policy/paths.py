"""Where a policy's files are: a directory, or the name of one that the package carries."""

from __future__ import annotations

from pathlib import Path

from at2po_agent.policy.base import PolicyError

BUILTIN = "builtin:"
_DATA = Path(__file__).resolve().parent.parent / "data"


def resolve_policy(path: str | Path) -> Path:
    """The directory that ``path`` means: ``builtin:NAME`` is a policy inside the package, all else a directory.

    Raises:
        PolicyError: there is no such policy, or the directory holds no ``config.json``; the message says what to give.
    """
    text = str(path)
    if text.startswith(BUILTIN):
        name = text.removeprefix(BUILTIN)
        carried = sorted(config.parent.name for config in _DATA.glob("*/config.json"))
        if name not in carried:
            known = ", ".join(BUILTIN + other for other in carried) or "none"
            raise PolicyError(f"there is no policy {text!r} in this installation; it carries: {known}")
        return _DATA / name
    directory = Path(text).expanduser()
    if not (directory / "config.json").is_file():
        what = "has no config.json" if directory.is_dir() else "is not a directory"
        raise PolicyError(f"policy {text!r} {what}; give a Hugging Face model directory, or {BUILTIN}microwiki")
    return directory
