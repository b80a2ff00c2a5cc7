"""Where long work shows itself: bars and a line of numbers, redrawn in place, or plain lines without a terminal."""

from __future__ import annotations

import math
import sys
import unicodedata
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text as Line


class Screen:
    """A context manager; what is noted stays above the bars."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._bars = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=self.console)
        self._numbers = Line("")
        self._live = Live(Group(self._bars, self._numbers), console=self.console, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live.is_started:
            self._live.stop()

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def say_loading(what: object) -> None:
    """Say on stderr that ``what`` is being loaded; call it before the imports that take seconds."""
    print(f"loading {what} …", file=sys.stderr, flush=True)


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


def amount(value: float) -> str:
    """Four significant digits, or all before the point, without an exponent."""
    decimals = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def counted(number: int, noun: str) -> str:
    """``1 question``, ``2 questions``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
