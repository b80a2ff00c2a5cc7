from __future__ import annotations

import io

import pytest
from rich.console import Console

from at2po_agent.training.display import Display, clock, sparkline
from at2po_agent.training.metrics import Scores

METRICS = {"reward": -0.25, "em": 0.421, "entropy": 0.5, "tokens_per_second": 1234.5, "loss": 3.0}


def plain() -> Console:
    return Console(file=io.StringIO(), width=200)


def text(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_without_a_terminal_everything_is_a_plain_line():
    console = plain()
    with Display(40, console=console) as display:
        display.phase("evaluation", total=4)
        display.advance()
        display.evaluation(Scores(0, ("a", "b", "c", "d"), (1.0, 0.0, 0.0, 1.0), ("",) * 4, {"f1": 0.5}, "nq demo"))
        display.step(10, METRICS, seconds=60.0)
        display.note("[bold]not markup[/bold]")
    assert text(console).splitlines() == [
        "evaluation …",
        "evaluation after step 0: EM 50.0% [6.8%, 93.2%] over 4 questions of nq demo  f1 0.5",
        "step 10/40  reward -0.250  EM 42.1%  entropy 0.500  tokens/s 1,234  3:00 left",
        "[bold]not markup[/bold]",
    ]


def test_a_step_without_scored_leaves_and_an_evaluation_without_scores():
    console = plain()
    with Display(5, console=console) as display:
        display.step(1, {"reward": None}, seconds=1.0)
        display.evaluation(Scores(1, (), (), ()))
    assert text(console).splitlines() == ["step 1/5  0:04 left", "evaluation after step 1: no question was scored"]


@pytest.mark.parametrize(
    ("step", "seconds", "max_seconds", "left"),
    [
        (10, 100.0, None, "5:00"),  # 30 steps of 10 s
        (10, 100.0, 300.0, "3:20"),  # the time ends first
        (10, 100.0, 9999.0, "5:00"),  # the steps end first
        (10, 310.0, 300.0, "0:00"),
        (0, 0.0, None, "?"),
    ],
)
def test_time_left_is_to_the_limit_that_comes_first(step: int, seconds: float, max_seconds: float | None, left: str):
    console = plain()
    with Display(40, max_seconds, console) as display:
        display.step(step, {}, seconds)
    assert text(console) == f"step {step}/40  {left} left\n"


def test_time_left_is_until_the_tokens_are_generated_where_that_comes_first():
    console = plain()
    with Display(40, 9999.0, console, max_tokens=4000) as display:
        display.step(10, {}, 100.0, 1000)  # 10 s per 100 tokens
        display.step(10, {}, 100.0, 100)
    assert text(console).splitlines() == ["step 10/40  5:00 left"] * 2
    console = plain()
    with Display(40, None, console, max_tokens=4000) as display:
        display.step(10, {}, 100.0, 2000)
    assert text(console) == "step 10/40  1:40 left\n"


def test_in_a_terminal_the_last_step_is_redrawn_and_evaluations_stay():
    console = terminal()
    with Display(40, console=console) as display:
        display.phase("evaluation", total=2)
        display.advance(2)
        display.evaluation(Scores(0, ("a",), (1.0,), ("",)))
        for step in range(1, 4):
            display.step(step, METRICS, seconds=float(step))
    shown = text(console)
    assert "EM 100.0% [2.5%, 100.0%] over 1 questions" in shown
    last = shown[shown.rindex("training") :]
    assert "3/40" in last
    assert "tokens/s 1,234" in last
    assert "step 2/40" not in shown  # no line per step
    assert "\x1b[?25h" in last  # the cursor is back


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, height=20, _environ={"TERM": "xterm"})


@pytest.mark.fault("item 19: the bar counts steps where seconds or tokens are the limit")
@pytest.mark.parametrize(
    ("max_seconds", "max_tokens", "bar", "count"),
    [
        (None, None, "training, steps", "24/400"),
        (90.0, None, "training, seconds", "89/90"),
        (9999.0, 5000, "training, tokens", "4000/5000"),
        (9999.0, 500_000, "training, steps", "24/400"),
    ],
)
def test_the_bar_is_of_the_limit_that_ends_the_run(
    max_seconds: float | None, max_tokens: int | None, bar: str, count: str
):
    console = terminal()
    with Display(400, max_seconds, console, max_tokens=max_tokens) as display:
        display.step(24, METRICS, seconds=89.0, tokens=4000)
    last = text(console)[text(console).rindex("training, ") :]
    assert last.startswith(bar) and count in last


@pytest.mark.fault("item 19: the display has no reward sparkline and forgets the last evaluation")
def test_rewards_and_the_last_evaluation_stay_beside_the_bar():
    console = terminal()
    with Display(40, console=console) as display:
        display.evaluation(Scores(0, ("a", "b"), (1.0, 0.0), ("", "")))
        for step, reward in enumerate((-1.0, 0.0, None, 1.0), start=1):
            display.step(step, {"reward": reward}, seconds=float(step))
    last = text(console)[text(console).rindex("training, ") :]
    assert "rewards ▁▅█  -1.000 to +1.000" in last
    assert "evaluation after step 0: EM 50.0% [" in last


def test_sparkline():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.25]) == "▁" and sparkline([2.0, 2.0]) == "▁▁"


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3599, 3723, -5, float("inf"))] == [
        "0:00",
        "1:00",
        "59:59",
        "1:02:03",
        "0:00",
        "?",
    ]
