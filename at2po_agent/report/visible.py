"""Text of models and passages on a terminal: what would steer the terminal is shown and never sent."""

from __future__ import annotations

import unicodedata

# They turn the direction of what follows, which makes an answer read as another one.
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str, width: int = 0) -> str:
    """``text`` without surrounding white space, with control and direction characters as �.

    Args:
        text: of anybody.
        width: longer ones are cut to it and say so; 0 cuts nothing.
    """
    text = "".join(c if c in "\n\t" or not _steers(c) else "�" for c in text.strip())
    return text if not width or len(text) <= width else f"{text[:width]}… ({len(text)} characters)"


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in _TURNS
