import io

import pytest
from rich.console import Console

from at2po_agent.terminal import Screen, amount, counted, visible


def test_what_would_steer_a_terminal_is_shown():
    assert visible(" \x1b[2Ja\u202eb\u2066c\u200f\x07\ud800 ") == "�[2Ja�b�c���"
    assert visible("Füße\n\tשלום") == "Füße\n\tשלום"


def test_a_cut_says_so():
    assert visible("abcdef", 3) == "abc… (6 characters)"
    assert visible("abc", 3) == "abc"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00001234, "0.00001234"),
        (0.2553, "0.2553"),
        (1.745, "1.745"),
        (1.85, "1.85"),
        (132.6, "132.6"),
        (-12345.6, "-12,346"),
    ],
)
def test_amounts_have_no_exponent(value: float, text: str) -> None:
    assert amount(value) == text


def test_a_count_has_its_noun_in_the_right_number() -> None:
    assert counted(1, "question") == "1 question"
    assert counted(0, "error") == "0 errors"
    assert counted(12345, "token") == "12,345 tokens"


def test_a_note_stays_as_it_was_written() -> None:
    out = io.StringIO()
    with Screen(Console(file=out, width=20)) as screen:
        screen.note("[red] is no colour here, and long lines are not broken")
    assert out.getvalue() == "[red] is no colour here, and long lines are not broken\n"
