import ast
import contextlib
import io
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group
from rich.padding import Padding
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text as Line
from rich.tree import Tree

from at2po_agent.terminal import (
    Loudness,
    SafeConsole,
    Screen,
    amount,
    counted,
    harmless,
    say,
    say_error,
    say_loading,
    set_loudness,
    visible,
)
from tests.helpers.places import ROOT


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


PIECES = ["\x1b[2J", "\x1b]8;;http://x\x07", "\u202e", "\x9b", "\r", "\b", "[/red]", "[b]", ":smile:", "a"]
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


@pytest.mark.fault("item 29: terminal escapes and markup from outside")
@given(HOSTILE)
def test_nothing_from_outside_steers_a_terminal_wherever_it_stands(text: str) -> None:
    out = io.StringIO()
    console = SafeConsole(file=out, width=400, color_system=None)
    table = Table(title=text, caption=text)
    table.add_column(text)
    table.add_row(text)
    tree = Tree(text)
    tree.add(text)
    for shown in (text, Line(text), table, tree, Group(text, Padding(text, 1))):
        console.print(shown)
    screen = Screen(console)
    screen.note(text)
    bars = Progress(TextColumn("{task.description}", markup=False), console=console)
    bars.add_task(text)
    console.print(bars)
    written = out.getvalue()
    assert not any(character in written for character in "\x1b\u202e\x9b\r\b\x07")
    assert written.count("[/red]") >= text.count("[/red]")


@pytest.mark.fault("item 29: terminal escapes and markup from outside")
@given(HOSTILE)
def test_a_line_that_is_said_steers_no_terminal(text: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        say(text)
        say(text, error=True)
    assert out.getvalue() == err.getvalue() == f"{harmless(text)}\n"
    assert not any(character in out.getvalue() for character in "\x1b\u202e\x9b\r\b\x07")


def test_commands_and_displays_write_to_terminals_in_one_place() -> None:
    """Only ``terminal`` makes a console that shows, and only it prints."""
    for file in sorted((ROOT / "at2po_agent").rglob("*.py")):
        calls = (node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call))
        for call in calls if file.name != "terminal.py" else ():
            quiet = ast.unparse(call) == "Console(quiet=True)"
            assert quiet or ast.unparse(call.func) not in ("print", "Console"), (file, call.lineno)


@pytest.fixture
def loud():
    yield set_loudness
    set_loudness(Loudness.NORMAL)


def test_quiet_leaves_results_and_errors(loud, capsys):
    def everything() -> str:
        console = SafeConsole(file=io.StringIO(), force_terminal=True, width=60)
        with Screen(console) as screen:
            screen.note("outage")
            screen.note("step", progress=True)
        say("result")
        say("going on", progress=True)
        say_loading("model")
        say_error("p", ValueError("wrong"))
        out, err = capsys.readouterr()
        return console.file.getvalue() + out + err

    said = everything()
    assert all(word in said for word in ("outage", "step", "result", "going on", "loading model", "wrong"))
    loud(Loudness.QUIET)
    assert everything() == "outage\nresult\np: error: wrong\n"


def test_verbose_says_what_led_to_an_error_but_not_what_its_cause_repeats(loud, capsys):
    try:
        try:
            raise KeyError("sk-secret")
        except KeyError as error:
            raise ValueError("the key is wrong") from error
    except ValueError as error:
        loud(Loudness.VERBOSE)
        say_error("p", error)
    said = capsys.readouterr().err
    assert "KeyError" in said and "sk-secret" not in said.replace('raise KeyError("sk-secret")', "")
    assert said.splitlines()[-1] == "p: error: the key is wrong"


def test_verbose_prints_the_log_lines_of_libraries_in_which_nothing_steers():
    code = (
        "import logging\nfrom at2po_agent.terminal import Loudness, set_loudness\n"
        "logging.getLogger('lib').info('unheard')\nset_loudness(Loudness.VERBOSE)\n"
        "logging.getLogger('lib').info('heard \\x1b[31m')\nlogging.getLogger('lib').debug('unheard')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    (line,) = done.stderr.splitlines()
    assert line.endswith("lib INFO: heard �[31m")
