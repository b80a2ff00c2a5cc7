"""Rendered text: scaffold that is ours, and data (questions, passages) that is never trusted.

Inside data no tag and no ``<|special|>`` token can exist, because :func:`neutralise` takes away the ``<`` that every
one of them starts with.
"""

from __future__ import annotations

import re

from at2po_env.state import Segment, Text
from search_backend.outside import well_formed

OPENS_A_TAG = re.compile(r"<(?![\s\d=])")


def neutralise(data: str) -> str:
    """``data`` without anything that could be read as a tag or a special token.

    Every ``<`` becomes ``‹`` unless white space, a digit or ``=`` follows it, as in ``a < b`` or ``p <0.05``.
    """
    return OPENS_A_TAG.sub("‹", well_formed(data))


def cut(data: str, limit: int) -> str:
    """``data``, or as much of it as fits ``limit`` characters with a ``…`` at the end."""
    return data if len(data) <= limit else data[: max(limit - 1, 0)] + "…"[:limit]


def followed_by(scaffold: str, data: str) -> list[tuple[str, bool]]:
    """Scaffold, then data, each to be encoded alone. A space between them goes to the data.

    Tokenizers make one token of a word and the space before it: so a title reads as it does inside a sentence.
    """
    kept = scaffold.removesuffix(" ") if data else scaffold
    return [(kept, False), (scaffold[len(kept) :] + neutralise(data), True)]


def text_of(*pieces: tuple[str, bool]) -> Text:
    """The pieces as segments, without the empty ones."""
    return tuple(Segment(text, data) for text, data in pieces if text)
