r"""Parse a turn's text in linear time: thoughts, the first complete action, the box of an answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BRACE = re.compile(r"[{}]")


@dataclass(frozen=True, slots=True)
class Spoken:
    """The text of a turn outside its thoughts."""

    text: str
    pieces: tuple[tuple[int, int], ...]  # (place in ``text``, place in the turn) where each of its pieces starts
    first_thought: int | None  # where in ``text`` the first closed thought stood

    def place(self, position: int) -> int:
        """The position in the turn of the character at ``position`` of ``text``."""
        here, there = next(piece for piece in reversed(self.pieces) if piece[0] <= position)
        return there + position - here


def without_thoughts(turn: str, tag: str) -> Spoken:
    """``turn`` without ``<tag>…</tag>``; an unclosed one swallows the rest.

    A turn whose first tag is ``</tag>`` begins inside a thought, which chat templates such as R1's or QwQ's open.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    kept: list[str] = []
    pieces: list[tuple[int, int]] = []
    first: int | None = None
    position = length = 0
    if begins_inside_a_thought(turn, tag):
        first, position = 0, turn.find(closing) + len(closing)
    while (start := turn.find(opening, position)) != -1:
        kept.append(turn[position:start])
        pieces.append((length, position))
        length += start - position
        end = turn.find(closing, start + len(opening))
        if end == -1:
            return Spoken("".join(kept), tuple(pieces), first)
        if first is None:
            first = length
        position = end + len(closing)
    kept.append(turn[position:])
    return Spoken("".join(kept), (*pieces, (length, position)), first)


def begins_inside_a_thought(turn: str, tag: str) -> bool:
    """Whether ``turn`` closes a thought before it opens one."""
    end = turn.find(f"</{tag}>")
    return end != -1 and f"<{tag}>" not in turn[:end]


def first_span(text: str, tag: str) -> tuple[int, str] | None:
    """The position of the first closed ``<tag>``, and its inside."""
    # If nothing closes the first opening tag, nothing closes a later one: two finds decide.
    opening, closing = f"<{tag}>", f"</{tag}>"
    start = text.find(opening)
    end = text.find(closing, start + len(opening)) if start != -1 else -1
    return None if end == -1 else (start, text[start + len(opening) : end])


def last_boxed(text: str) -> str | None:
    r"""The inside of the balanced ``\boxed{…}`` that opens last."""
    if "\\boxed{" not in text:
        return None
    opened: list[int] = []
    last: tuple[int, int] | None = None
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            opened.append(brace.end())
        elif opened:
            start = opened.pop()
            if text.endswith("\\boxed{", 0, start) and (last is None or start > last[0]):
                last = (start, brace.start())
    return None if last is None else text[slice(*last)]
