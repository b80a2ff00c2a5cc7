from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from at2po_agent.training.metrics import Result, Scores
from at2po_agent.training.summary import summary


def shown(result: Result) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=80)
    console.print(summary(result))
    file = console.file
    assert isinstance(file, io.StringIO)
    return [[cell.strip() for cell in line.split("│")[1:-1]] or [line.strip()] for line in file.getvalue().splitlines()]


def result(before: Scores | None, after: Scores | None) -> Result:
    return Result(
        steps=7,
        seconds=301.0,
        generated_tokens=12_345,
        trees=56,
        dropped=2,
        before=before,
        after=after,
        checkpoint=Path("runs/x/checkpoints/step_000007"),
    )


def test_questions_are_paired_by_id_and_split_by_group():
    ids = ("a", "b", "c", "d")
    groups = ("1 hop", "1 hop", "2 hops", "2 hops")
    before = Scores(0, ids, (0.0, 1.0, 0.0, 0.0), groups)
    after = Scores(7, ids[::-1], (1.0, 1.0, 0.0, 1.0), groups[::-1])  # another order
    lines = shown(result(before, after))
    assert ["all", "4", "25.0%", "75.0%", "+50.0", "-42.1 to +100.0"] in lines
    assert ["1 hop", "2", "50.0%", "50.0%", "+0.0", "-98.0 to +98.0"] in lines  # one won, one lost
    assert ["2 hops", "2", "0.0%", "100.0%", "+100.0", "-34.9 to +100.0"] in lines
    assert ["7 steps, 5:01 of training, 56 trees, 12,345 generated tokens"] in lines
    assert ["2 trees were dropped: they had fewer than two scored leaves"] in lines
    assert ["checkpoint: runs/x/checkpoints/step_000007"] in lines


def test_questions_that_were_scored_once_are_left_out_and_said():
    before = Scores(0, ("a", "b"), (0.0, 1.0), ("", ""))
    after = Scores(7, ("b", "c"), (1.0, 1.0), ("", ""))
    lines = shown(result(before, after))
    assert ["all", "1", "100.0%", "100.0%", "+0.0", "-92.4 to +92.4"] in lines
    assert any("2 questions were scored only once" in line[0] for line in lines)


def test_without_evaluation_there_is_no_table():
    assert shown(result(None, None))[0][0].startswith("7 steps")


def test_tasks_are_called_what_their_environment_calls_them():
    scores = Scores(0, ("a", "b"), (0.0, 1.0), ("", ""), metric="success", title="success", task_word="task")
    title, *lines = shown(result(scores, scores))
    assert title == ["Success on 2 unseen tasks, greedy"]
    assert ["tasks", "n", "before", "after", "gain, points", "95 % paired interval"] in [
        [cell.strip() for cell in "".join(line).split("┃")[1:-1]] for line in lines
    ]
