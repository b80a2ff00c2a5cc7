"""``at2po-agent export`` as it is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from at2po_agent.commands.main import main
from tests.at2po_agent.training.test_checkpoints import Trainee


def test_the_newest_checkpoint_becomes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    trainee = Trainee()
    trainee.save(run / "checkpoints", 1)
    newest = trainee.save(run / "checkpoints", 2)
    assert main(["export", str(run), str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{newest} (step 2) → {out}\n"
    assert said.err == f"loading {run} …\n"
    assert (out / "config.json").is_file() and (out / "tokenizer.json").is_file()


def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    trainee = Trainee()
    trainee.save(run / "checkpoints", 1)
    newest = trainee.save(run / "checkpoints", 2)
    (newest / "position.json").write_text("{}")
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "(step 1)" in said.out
    assert f"{newest} is damaged" in said.err
