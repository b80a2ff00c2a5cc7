"""``at2po-agent show-tree`` as it is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from at2po_agent.commands.main import main
from at2po_agent.environments import EnvConfig
from at2po_agent.training.config import PolicyConfig, TrainConfig
from at2po_agent.training.run_dir import RunDirectory
from tests.helpers.stored_trees import grown, record


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two steps; the second one has two trees."""
    config = TrainConfig(run_dir=str(tmp_path / "run"), env=EnvConfig(id="X-v0"), policy=PolicyConfig(path="p"))
    with RunDirectory.create(config) as directory:
        directory.save_trees(1, [record(grown("q1"))])
        directory.save_trees(2, [record(grown("q2")), record(grown("q3"))])
        directory.add_session({})
    return directory.path


@pytest.mark.parametrize(
    ("words", "headline"),
    [
        ([], "step 2, tree 0, question q2"),
        (["--index", "1"], "step 2, tree 1, question q3"),
        (["--step", "1"], "step 1, tree 0, question q1"),
        (["--question", "q1", "--full"], "step 1, tree 0, question q1"),
    ],
)
def test_a_tree_is_printed(run: Path, words: list[str], headline: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show-tree", str(run), *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == headline
    assert any("turn 4  chain 1" in line for line in lines)


@pytest.mark.fault("item 19: show-tree explains H, V and A, and that V is of normalised rewards")
def test_the_letters_are_explained_below_the_tree(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show-tree", str(run)]) == 0
    shown = capsys.readouterr().out
    legend = [line[:2] for line in shown.splitlines() if line[:3] in ("H  ", "V  ", "A  ")]
    assert legend == ["H ", "V ", "A "]
    assert "normalised rewards" in shown


def test_a_tree_that_is_not_there_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show-tree", str(run), "--step", "7"]) == 2
    assert "has no trees of step 7; it has steps 1 to 2" in capsys.readouterr().err


def test_a_tree_is_drawn_into_a_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    light, dark = tmp_path / "light.svg", tmp_path / "dark.svg"
    assert main(["show-tree", str(run), "--index", "1", "--svg", str(light)]) == 0
    assert capsys.readouterr().out == f"step 2, tree 1, question q3 → {light}\n"
    assert main(["show-tree", str(run), "--index", "1", "--svg", str(dark), "--dark"]) == 0
    assert light.read_text().startswith("<svg ") and light.read_text() != dark.read_text()
