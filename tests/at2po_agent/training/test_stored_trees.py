from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from at2po_agent.environments import EnvConfig
from at2po_agent.method.tree import TurnTree
from at2po_agent.policy.loading import PolicyConfig
from at2po_agent.training.config import TrainConfig
from at2po_agent.training.run_dir import RunDirectory, RunDirError
from at2po_agent.training.stored_trees import examples, find_tree, render, render_tree
from at2po_env.tasks import Task
from tests.helpers.stored_trees import WORDS, grown, record


def shown(stored: dict[str, object], width: int = 300) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(render(stored, width=width))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_tree_is_shown_with_its_numbers():
    lines = [line.strip(" │├└─") for line in shown(record(grown())).splitlines()]
    assert lines == [
        "Who [b]?  gold: A | B",
        "question",
        "turn 1  chain 0  1 tokens  H 0.500  V +0.500  A -0.250 to +0.500 by leaf",
        "<search> x </search>",
        "<result> y </result>",
        "turn 2  chain 0  1 tokens  H 0.250  V +1.500  A +1.500  reward 1 (answer)",
        "right",
        "turn 3  chain 0  1 tokens  H 2.000  V -0.500  A -0.500  reward 0 (answer)",
        "wrong",
        "turn 4  chain 1  1 tokens  H 1.000  V -1.000  A -1.000  reward -1 (malformed)",
        "�[2J[red]evil�",
    ]


def test_siblings_stand_under_their_parent():
    indent = {
        line.strip(" │├└─")[:6]: len(line) - len(line.lstrip(" │├└─")) for line in shown(record(grown())).splitlines()
    }
    assert indent["turn 1"] == indent["turn 4"] < indent["turn 2"] == indent["turn 3"]


def test_a_credit_without_values_shows_none():
    assert " V " not in shown(record(grown(), values=None))


def test_long_texts_are_cut_where_asked():
    assert "<searc… (20 characters)" in shown(record(grown()), width=6)
    assert "<search> x </search>" in shown(record(grown()), width=0)


def test_the_tree_itself_comes_back():
    again = TurnTree.from_json(record(grown())["tree"])
    assert [node.action for node in again.nodes] == [node.action for node in grown().nodes]
    assert again.prompt_ids(1) == (1, 2, 3)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    config = TrainConfig(run_dir=str(tmp_path / "run"), env=EnvConfig(id="X-v0"), policy=PolicyConfig(path="p"))
    with RunDirectory.create(config) as run:
        run.save_trees(2, [record(grown("a")), record(grown("b"))])
        run.save_trees(4, [record(grown("c")), record(grown("b"))])
        yield run.path


def test_finding_a_tree(run: Path):
    def where(**wanted: object) -> tuple[int, int, str]:
        step, index, found = find_tree(run, **wanted)  # type: ignore[arg-type]
        return step, index, found["tree"]["question_id"]

    assert where() == (4, 0, "c")
    assert where(step=2, index=1) == (2, 1, "b")
    assert where(question="a") == (2, 0, "a")
    assert where(question="b") == (4, 1, "b")
    for wanted, message in (
        ({"step": 3}, "no trees of step 3; it has steps 2, 4"),
        ({"index": 5}, "step 4 has trees 0 to 1, not 5"),
        ({"question": "zz"}, "no tree of question 'zz' in any stored step"),
        ({"question": "c", "step": 2}, "no tree of question 'c' in step 2"),
    ):
        with pytest.raises(RunDirError, match=message):
            find_tree(run, **wanted)  # type: ignore[arg-type]
    with pytest.raises(RunDirError, match="no stored trees"):
        find_tree(run / "trees")


def test_a_grown_tree_is_drawn_without_a_run() -> None:
    tree = grown()
    advantages = [[0.5] * len(path) for _, path in tree.trajectories()]
    task = Task("q1", "Who [b]?", answers=("right",))
    console = Console(file=io.StringIO(), width=160)
    console.print(render_tree(tree, task, advantages, lambda ids: " ".join(WORDS[id_] for id_ in ids)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Who [b]?" in text and "A +0.500" in text and "reward 1 (answer)" in text


@pytest.mark.fault("item 20: one tree and some transcripts are logged")
def test_examples_are_a_tree_with_signal_and_its_best_and_worst_path():
    equal = record(TurnTree.from_json(record(grown())["tree"]), question="Another?")
    for node in equal["tree"]["nodes"]:
        node["reward"] = 0.0 if node["leaf"] else None
    texts = examples([equal, record(grown())])
    assert "Who [b]?" in texts["examples/tree"] and "A +1.500" in texts["examples/tree"]
    best, worst = texts["examples/best_path"], texts["examples/worst_path"]
    assert best.splitlines()[0] == "Who [b]?" and "gold: A | B" in best
    assert "<search> x </search>\n<result> y </result>" in best and best.rstrip().endswith("reward 1 (answer)")
    assert worst.rstrip().endswith("reward -1 (malformed)")
    assert not any("\x1b" in text for text in texts.values())
    assert examples([equal])["examples/best_path"].startswith("Another?")
