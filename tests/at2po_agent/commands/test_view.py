"""Reading a run in the terminal, at once or one episode after another."""

import io

import pytest
from rich.console import Console

from at2po_agent.commands.main import main
from at2po_agent.commands.view import FILTERS, browse
from at2po_agent.judge.episodes.records import FILTERS as MEANINGS
from at2po_agent.judge.results.stored import Finished
from tests.helpers.evaluations import answered, failed, malformed, write_run


@pytest.fixture
def run(tmp_path):
    episodes = [answered("q1"), answered("q2", "Rom"), malformed("q3"), failed("q4"), answered("q5")]
    return write_run(tmp_path / "run", episodes)


def shown(capsys, *words):
    assert main(["view", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_a_list_where_there_is_no_terminal(run, capsys):
    lines = shown(capsys, run).splitlines()
    assert lines[0].strip() == "tiny on HotpotQA dev: 5 of 5 episodes"
    assert lines[-1] == "EM 50.0% [6.8%, 93.2%] over 4 questions"
    verdicts = [cells[3].strip() for line in lines if len(cells := line.split("│")) > 7]
    assert verdicts == ["correct", "wrong", "malformed", "error", "correct"]


@pytest.mark.parametrize(("name", "ids"), [("wrong", ["q2", "q3"]), ("error", ["q4"]), ("malformed", ["q3"])])
def test_a_filter(run, capsys, name, ids):
    rows = [line.split("│")[2].strip() for line in shown(capsys, run, "--filter", name).splitlines() if "│" in line]
    assert rows == ids


def test_a_question_is_shown_turn_by_turn_with_its_passages_where_asked(run, capsys):
    text = shown(capsys, run, "--question", "q2")
    assert "q2  wrong  answer Rom" in text and "Walem is a town." not in text
    assert "Walem is a town." in shown(capsys, run, "--question", "q2", "--full")


def test_what_is_not_there(run, capsys):
    assert main(["view", str(run), "--question", "zz"]) == 2
    assert "has no finished episode of question 'zz'" in capsys.readouterr().err
    assert main(["view", str(run / "nowhere")]) == 2
    assert "is not the directory of an evaluation" in capsys.readouterr().err


def test_a_training_run_is_sent_on(tmp_path, capsys):
    (tmp_path / "trees").mkdir()
    assert main(["view", str(tmp_path)]) == 2
    assert "--html FILE draws them" in capsys.readouterr().err


def test_browsing(run):
    said = iter(["", "", "p", "wrong", "2", "t", "9", "l"])

    def ask(prompt):
        prompts.append(prompt)
        try:
            return next(said)
        except StopIteration:
            raise EOFError from None

    prompts: list[str] = []
    console = Console(file=io.StringIO(), width=160)
    browse(console, Finished.read(run), "all", ask)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    read = [line.split("  ")[0] for line in text.splitlines() if "gold Walem" in line and "│" not in line]
    assert read == ["q1", "q2", "q1", "q3", "q3"]
    assert prompts[0].endswith("[all 0/5] > ")
    assert prompts[-1].endswith("[wrong 2/2] > ")
    assert "there is no episode 9 here: 1 to 2" in text


def test_a_long_list_is_shown_a_screen_at_a_time(tmp_path):
    run = write_run(tmp_path / "run", [answered(f"q{n}", question="Where?" + " Why?" * 40) for n in range(50)])
    said = iter(["30", "l", "q"])
    console = Console(file=io.StringIO(), width=80, height=20)
    browse(console, Finished.read(run), "all", lambda prompt: next(said))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    numbers = [int(line.split("│")[1]) for line in text.splitlines() if line.startswith("│")]
    assert numbers == [*range(1, 13), *range(30, 42)]
    assert "Where? Why?" in text
    assert "correct" in text
    assert "Walem" in text


def test_the_filters_of_the_command_are_those_that_there_are():
    assert tuple(MEANINGS) == FILTERS
