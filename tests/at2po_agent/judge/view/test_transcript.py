"""Episodes as text: the table of a wide and a narrow terminal, and one episode turn by turn."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from at2po_agent.judge.view.transcript import episode_table, transcript
from tests.helpers.evaluations import answered, failed, malformed, search_turn


def printed(renderable: RenderableType, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def rows(width: int) -> list[list[str]]:
    """The cells of a table of every kind of episode, its head first."""
    episodes = [answered("q1", sample=2), answered("q2", "Rom"), malformed("q3"), failed("q4")]
    lines = printed(episode_table(episodes, "all", width, first=7), width).splitlines()
    assert all(len(line) <= width for line in lines)
    return [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] for line in lines if line[0] in "│┃"]


def test_a_wide_table_has_everything() -> None:
    head, *found = rows(160)
    assert head == ["", "id", "verdict", "question", "prediction", "gold", "turns"]
    assert [row[:3] for row in found] == [
        ["7", "q1 #3", "correct"],
        ["8", "q2", "wrong"],
        ["9", "q3", "malformed"],
        ["10", "q4", "error"],
    ]
    assert [row[4] for row in found] == ["Walem", "Rom", "(malformed)", "HTTP 503 after …"]
    assert found[0][3:] == ["Where was Somon born?", "Walem", "Walem", "2"]


def test_a_narrow_table_leaves_out_what_can_be_read_elsewhere() -> None:
    head, *found = rows(80)
    assert head == ["", "verdict", "question", "prediction"]
    assert found[1] == ["8", "wrong", "Where was Somon born?", "Rom"]


def test_an_episode_turn_by_turn() -> None:
    episode = answered("q2", "Rom")
    text = printed(transcript(episode))
    for part in ("q2  wrong  answer Rom  gold Walem  EM 0  F1 0.00  recall 1.00", "turn 1  search", "turn 2  answer"):
        assert part in text
    assert "(1) Somon  ★ gold  9.50" in text
    assert "(2) Walem  8.50" in text
    assert "Walem is a town." not in text
    full = printed(transcript(episode, passages=True))
    assert "Walem is a town." in full
    assert "Answer the question below." in full


def test_an_error_says_what_ended_it_and_a_malformed_turn_why() -> None:
    assert "q4  error  HTTP 503 after 8 tries" in printed(transcript(failed("q4")))
    text = printed(transcript(malformed("q3")))
    assert "answer none (malformed)" in text and "no complete <search> or <answer>" in text


def test_nothing_that_was_read_steers_the_terminal() -> None:
    hostile = search_turn("x", [("\x1b[2J[red]Evil", "[bold]\u202eno")])
    text = printed(transcript(answered("q5", turns=(hostile,)), passages=True))
    assert "�[2J[red]Evil" in text
    assert "[bold]�no" in text
    assert not set("\x1b\u202e") & set(text)
    table = printed(episode_table([answered("q6", "[red]\x1b[2Jx\ny")], "\x1b[2J", 120))
    assert "[red]�[2Jx y" in table and "\x1b" not in table
