from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from at2po_agent.training.checkpoints import CheckpointError
from at2po_agent.training.export import export
from tests.at2po_agent.training.test_checkpoints import Trainee, nobody, weights


def test_an_export_is_a_hugging_face_folder(tmp_path: Path):
    trainee = Trainee()
    run, out = tmp_path / "run", tmp_path / "out"
    trainee.save(run / "checkpoints", 1)
    trainee.step()
    path = trainee.save(run / "checkpoints", 2)
    out.mkdir()  # empty: fine
    assert export(run, out, nobody).step == 2
    model = AutoModelForCausalLM.from_pretrained(out)
    assert weights(model) == weights(trainee.model)
    assert AutoTokenizer.from_pretrained(out)("river <search> town")["input_ids"] == [3, 1, 4]
    assert (out / "generation_config.json").is_file()
    with pytest.raises(CheckpointError, match="out already has something in it"):
        export(path, out, nobody)
    assert export(path, tmp_path / "other", nobody).path == path


def test_nothing_to_export(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        export(tmp_path, tmp_path / "out", nobody)
    with pytest.raises(CheckpointError, match="nowhere is not a checkpoint"):
        export(tmp_path / "nowhere", tmp_path / "out", nobody)
    assert not (tmp_path / "out").exists()
