"""Progress of long work: bars and a line of numbers, redrawn in place, or plain lines without a terminal."""

from __future__ import annotations

import logging
import math
import sys
import traceback
import unicodedata
from collections.abc import Iterable
from enum import Enum
from typing import Any, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.segment import Segment
from rich.text import Text as Line


class SafeConsole(Console):
    """A console on which nothing that it is given can steer the terminal, colour text or break off a print.

    Texts are no markup, and control and direction characters in them are shown as �, whatever they stand in.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of anything, as rich draws them: tables and bars ask for their parts here too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)


class Screen:
    """A context manager; what is noted stays above the bars."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or SafeConsole()
        self._bars = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), console=self.console
        )
        self._numbers = Line("")
        self._live = Live(Group(self._bars, self._numbers), console=self.console, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self.console.is_terminal and not _quiet():
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live.is_started:
            self._live.stop()

    def note(self, text: str, *, progress: bool = False) -> None:
        """Say something that stays on the screen; ``progress`` is left out where only results are wanted."""
        if not (progress and _quiet()):
            self.console.print(harmless(text), markup=False, highlight=False, soft_wrap=True)


class Loudness(Enum):
    """How much a command says; the same for all of them."""

    QUIET = "quiet"  # -q: results, and errors and outages; no bars and no progress
    NORMAL = "normal"
    VERBOSE = "verbose"  # -v: also the log lines of libraries, and where a foreseen error comes from


_loudness = Loudness.NORMAL


def set_loudness(loudness: Loudness) -> None:
    """Choose how much this process says from now on."""
    global _loudness
    _loudness = loudness
    if loudness is Loudness.VERBOSE:
        handler = logging.StreamHandler()
        handler.setFormatter(_HarmlessFormatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])


class _HarmlessFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


def _quiet() -> bool:
    return _loudness is Loudness.QUIET


def say(text: object, *, error: bool = False, progress: bool = False) -> None:
    """Print a line in which nothing can steer the terminal.

    Args:
        text: one line or more.
        error: to stderr, not to stdout.
        progress: of a work that goes on, which is left out where only results are wanted.
    """
    if not (progress and _quiet()):
        print(harmless(str(text)), file=sys.stderr if error else sys.stdout, flush=error)


def say_error(program: str, error: BaseException) -> None:
    """Say a foreseen error in one line on stderr; verbosely, after the calls that led to it.

    Of an error that caused it only the type is said: what a server answered may repeat a key.
    """
    cause: BaseException | None = error
    while _loudness is Loudness.VERBOSE and cause is not None:
        say("".join(traceback.format_tb(cause.__traceback__)) + type(cause).__qualname__, error=True)
        cause = cause.__cause__
    say(f"{program}: error: {error}", error=True)


def say_loading(what: object) -> None:
    """Say on stderr that ``what`` is being loaded; call it before the imports that take seconds."""
    say(f"loading {what} …", error=True, progress=True)


# They turn the direction of what follows, which makes an answer read as another one.
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str, width: int = 0) -> str:
    """``text`` without surrounding white space, with control and direction characters as �.

    Args:
        text: of anybody.
        width: longer ones are cut to it and say so; 0 cuts nothing.
    """
    text = harmless(text.strip())
    return text if not width or len(text) <= width else f"{text[:width]}… ({len(text)} characters)"


def harmless(text: str) -> str:
    """``text`` with control and direction characters as �; line feeds and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not _steers(c) else "�" for c in text)


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in _TURNS


def amount(value: float) -> str:
    """Four significant digits, or all before the point, without an exponent."""
    decimals = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def percent(share: float) -> str:
    """``12.3%``."""
    return f"{share:.1%}"


def counted(number: int, noun: str) -> str:
    """``1 question``, ``2 questions``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
