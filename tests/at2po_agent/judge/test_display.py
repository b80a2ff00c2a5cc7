import io

import pytest
from rich.console import Console

from at2po_agent.judge.display import EvaluationDisplay
from at2po_agent.judge.episodes.records import EpisodeRecord, TurnRecord


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def record(id_: str, em: float | None, tokens: int = 100, sample: int = 0) -> EpisodeRecord:
    turn = TurnRecord("x", {"kind": "answer"}, "", completion_tokens=tokens)
    error = "away" if em is None else None
    return EpisodeRecord(id_, sample, "?", ("a",), "answer", em=em, error=error, turns=(turn,))


def shown(terminal: bool) -> tuple[EvaluationDisplay, io.StringIO, Clock]:
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, force_terminal=terminal, width=100, color_system=None)
    return EvaluationDisplay("nq test", 10, console, clock), out, clock


def test_plain_lines_now_and_then():
    display, out, clock = shown(terminal=False)
    with display:
        display.earlier([record("a", 1.0), record("b", None)])  # the error is run again: it is not done
        for second, em in enumerate([1.0, 0.0, None, 0.0], start=1):
            clock.now = 4.0 * second
            display.finished([record(f"q{second}", em)])
    reason, line = out.getvalue().splitlines()  # at 12 s; the next would have been due at 22 s
    assert reason == "error, q3: away"
    assert line.startswith("nq test: 4/10  EM 66.7% [9.4%, 99.2%]  25 tokens/s  1 errors  0:24 left")
    assert display.line().startswith("EM 50.0% [")


def test_a_terminal_shows_the_same_numbers_in_place():
    display, out, clock = shown(terminal=True)
    with display:
        clock.now = 2.0
        display.finished([record("a", 1.0)])
    assert "nq test" in out.getvalue() and "1/10" in out.getvalue()
    assert "EM 100.0% [2.5%, 100.0%]  50 tokens/s  0 errors  0:18 left" in out.getvalue()


def test_why_episodes_have_no_score_is_said_once_for_a_reason():
    display, out, _ = shown(terminal=False)
    reasons = ["away", "away", "timed out", *map(str, range(9))]
    with display:
        for n, reason in enumerate(reasons):
            display.finished([EpisodeRecord(f"q{n}", 0, "?", ("a",), "error", error=reason)])
    assert out.getvalue().splitlines()[:2] == ["error, q0: away", "error, q2: timed out"]
    assert len(out.getvalue().splitlines()) == 5  # the others are in their records


def test_nothing_known_yet():
    display, _, _ = shown(terminal=False)
    assert display.line() == "0 tokens/s  0 errors  ? left"


@pytest.mark.fault("item 15: leaves of a tree are not pooled with its chains")
def test_exact_match_of_trees_is_of_the_chains_that_they_began_with():
    display = EvaluationDisplay("nq test", 4, Console(file=io.StringIO()), Clock(), chains=2)
    display.finished([record("a", em, sample=sample) for sample, em in enumerate((1.0, 0.0, 0.0, 0.0))])
    assert display.line().startswith("EM 50.0% [")
