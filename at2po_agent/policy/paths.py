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
    refuse_endpoint(text)
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


def refuse_endpoint(path: str) -> None:
    """Raise a PolicyError where ``path`` is an address: a chat endpoint gives no token ids and takes no weights."""
    if path.startswith(("http://", "https://")):
        raise PolicyError(
            f"policy {path!r} is an address: a chat endpoint gives text without token ids and takes no new weights, so "
            f"nothing can be trained through it. Train a model directory or {BUILTIN}microwiki; judge the endpoint "
            f"with at2po-agent eval -b {path} -m MODEL"
        )
