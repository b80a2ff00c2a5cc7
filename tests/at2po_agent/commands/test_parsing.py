from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from at2po_agent.commands import main as cli
from at2po_agent.commands.parsing import Group, Parser
from at2po_agent.terminal import Loudness, set_loudness


@pytest.fixture(autouse=True)
def normal_again() -> Iterator[None]:
    yield
    set_loudness(Loudness.NORMAL)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tran"], "at2po-agent: error: COMMAND: there is no 'tran'; did you mean train?"),
        (["show_tree", "x"], "there is no 'show_tree'; did you mean show-tree?"),
        (["data", "imprt"], "at2po-agent data: error: WHAT: there is no 'imprt'; did you mean import?"),
        (["compare", "a", "--format", "markdwn"], "--format: there is no 'markdwn'; did you mean markdown?"),
        (["data", "zzzz"], "there is no 'zzzz'; known: status, pull, import, export"),
    ],
)
def test_of_an_unknown_word_the_nearest_is_named(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(words, capsys)


def test_help_has_every_command_under_a_heading_and_examples_that_parse(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: at2po-agent [-h] [-q | -v] [--version] COMMAND ...\n")
    places = [text.index(f"\n{heading}:\n") for heading in (*cli.GROUPS, "examples")]
    assert places == sorted(places)
    assert text.index("\n  warm-start ") < places[1] < text.index("\n  rescore ") < places[2]
    examples = [line.split("  ")[0].split() for line in cli.EXAMPLES.replace("\n  ", "\n").splitlines()[1:-2]]
    assert len(examples) > 5
    for words in examples:
        with pytest.raises(SystemExit) as caught:
            cli.main([*words[1:], "--help"])
        assert caught.value.code == 0 and words[0] == "at2po-agent"


@pytest.mark.parametrize(
    ("words", "loudness"),
    [
        (["x"], Loudness.NORMAL),
        (["-q", "x"], Loudness.QUIET),
        (["x", "-q"], Loudness.QUIET),
        (["--verbose", "x"], Loudness.VERBOSE),
        (["-q", "x", "-v"], Loudness.VERBOSE),
    ],
)
def test_loudness_stands_before_or_after_the_command(words: list[str], loudness: Loudness) -> None:
    parser = Parser(prog="p")
    parser.set_defaults(loudness=Loudness.NORMAL)
    group = Group(parser.add_subparsers(metavar="COMMAND"), "all")
    group.add_parser("x", help="a command")
    assert parser.parse_args(words) == argparse.Namespace(loudness=loudness)
    assert group.help() == "all:\n  x              a command"


def test_verbose_shows_where_a_foreseen_error_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["show-tree", str(tmp_path / "nothing")]
    assert cli.main(words) == cli.main([*words, "-q"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert cli.main(["-v", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any("find_tree" in line for line in lines) and lines[-1].startswith("at2po-agent: error: there is no run")
