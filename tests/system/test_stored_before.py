"""What version 0.1.0 stored, before its modules moved, still opens: a run, evaluations and a tape.

The samples in ``stored/`` were written by commit bcfd0d3: a run of one step with a policy of 8 × 1, an evaluation of
the shipped policy, and two of an endpoint, one of them with ``--tree``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from at2po_agent.commands import main as cli
from at2po_env.errors import SnapshotError
from at2po_env.state import EpisodeState
from search_backend import Tape

STORED = Path(__file__).parent / "stored"


@pytest.fixture
def stored(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "stored"
    shutil.copytree(STORED, folder)
    monkeypatch.chdir(folder)
    return folder


def evaluations(folder: Path) -> list[str]:
    return sorted(str(path) for path in (folder / "evaluations").iterdir())


def test_a_tape_replays() -> None:
    tape = Tape(STORED / "tape.jsonl", None, "replay")
    (hits,) = tape.search(["Somon born"], 2)
    assert [hit.passage.id for hit in hits] == ["000039-0", "000039-1"]
    assert hits[0].score == 10.513559341430664


@pytest.mark.fault("R6: a snapshot whose action, hits or types were changed")
def test_a_snapshot_of_the_first_format_is_refused_by_name() -> None:
    """Its digest covers neither hits nor parsed actions, so nobody can tell whether it was changed."""
    with pytest.raises(SnapshotError, match="format is 'at2po-episode/1', this version reads 'at2po-episode/2'"):
        EpisodeState.from_json(json.loads((STORED / "snapshot.json").read_text(encoding="utf-8")))


def test_the_trees_of_a_run_are_shown(stored, capsys) -> None:
    assert cli.main(["show-tree", "run"]) == 0
    assert "step 1, tree 0" in capsys.readouterr().out
    assert cli.main(["view", "run", "--html", "run.html"]) == 0
    assert (stored / "run.html").stat().st_size > 10_000


def test_a_run_is_exported_and_goes_on(stored) -> None:
    assert cli.main(["export", "run", "exported"]) == 0
    assert (stored / "exported" / "model.safetensors").is_file()
    assert cli.main(["train", "--resume", "run", "train.steps=2"]) == 0
    steps = [json.loads(line)["step"] for line in (stored / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 1, 2, 2]  # an evaluation at the start, and one after each last step


def test_a_local_evaluation_goes_on(stored) -> None:
    (run,) = (path for path in evaluations(stored) if "builtin" in path)
    assert cli.main(["eval", "--resume", run]) == 0


@pytest.mark.parametrize("words", [["rescore"], ["view"], ["export-traces"]])
def test_evaluations_are_read(stored, words) -> None:
    for run in evaluations(stored):
        assert cli.main([*words, run]) == 0


def test_evaluations_are_compared(stored, capsys) -> None:
    assert cli.main(["compare", *evaluations(stored), "--anyway"]) == 0
    assert "HotpotQA" in capsys.readouterr().out
