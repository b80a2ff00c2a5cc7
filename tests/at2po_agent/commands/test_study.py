"""``study`` before anything is trained, and the page of what is finished."""

from __future__ import annotations

import pytest

from at2po_agent.commands.main import main
from at2po_agent.study.cells import Cell
from at2po_agent.study.config import load_study
from at2po_agent.training.metrics import Scores
from at2po_agent.training.run_dir import RunDirectory
from tests.helpers.places import CONFIGS


@pytest.fixture
def file(tmp_path):
    quickstart = CONFIGS / "runs" / "quickstart.yaml"
    (tmp_path / "study.yaml").write_text(
        f"config: {quickstart}\nvariants: {{a: [algorithm.name=grpo, 'algorithm.expansion={{}}'], b: []}}\n"
        f"seeds: [1]\nbudget: {{tokens: 50}}\nname: mine\nout: {tmp_path / 'out'}\n"
    )
    return tmp_path / "study.yaml"


def test_a_study_is_checked_before_anything_is_trained(file, capsys):
    assert main(["study", "--cfg", str(file), "reference=c"]) == 2
    assert "reference is 'c', the variants are a, b" in capsys.readouterr().err
    assert main(["study", "--cfg", str(file), "overrides=[algorithm.name=gppo]"]) == 2
    assert "gppo" in capsys.readouterr().err
    assert not (file.parent / "out").exists()


def finish(cell: Cell) -> None:
    """Write the run of a cell that was trained to its budget and evaluated: one of two questions is right."""
    with RunDirectory.create(cell.training()) as run:
        run.log(1, {"generated_tokens": 60, "calls": 6}, {"step": 1.0, "cpu": 1.0})
        run.log_evaluation(1, Scores(1, ("q1", "q2"), (1.0, 0.0), ("", "")), 1.0)
        run.add_session({})


def test_the_page_of_what_is_finished(file, capsys):
    assert main(["study", "--cfg", str(file), "--only-page"]) == 0
    assert "no run is finished" in capsys.readouterr().out
    finish(load_study(file).cells[0])
    assert main(["study", "--cfg", str(file), "--only-page"]) == 0
    page = (file.parent / "out" / "page.md").read_text()
    assert page.startswith(f"# mine\n\n```bash\nat2po-agent study --cfg {file}\n```\n\n")
    assert "\n2 variants × 1 seed at 50 tokens a run, compared with a.\n" in page
    assert "| a | 1 | 50.0 |" in page and "| b-seed1 | new |" in page


def test_the_page_names_what_was_compared_with_in_place_of_the_reference(file, capsys):
    finish(load_study(file).cells[1])
    assert main(["study", "--cfg", str(file), "--only-page"]) == 0
    page = (file.parent / "out" / "page.md").read_text()
    assert "a run, compared with b (the study's reference, a, has no finished run)." in page.replace("\\", "")


def test_a_run_that_cannot_be_read_does_not_end_the_study(file, capsys):
    good, bad = load_study(file).cells
    for cell in (good, bad):
        with RunDirectory.create(cell.training()) as run:
            run.log(1, {"generated_tokens": 60, "calls": 6}, {"step": 1.0, "cpu": 1.0})
            run.log_evaluation(1, Scores(1, ("q1", "q2"), (1.0, 0.0), ("", "")), 1.0)
            run.add_session({})
    (bad.path / "evaluations" / "step_000001.json").write_text("{")
    assert main(["study", "--cfg", str(file), "--only-page"]) == 0
    page = (file.parent / "out" / "page.md").read_text()
    assert "| a | 1 | 50.0 |" in page and "| b-seed1 | failed: " in page
    (bad.path / "config.yaml").write_text("nonsense: 1\n")
    assert main(["study", "--cfg", str(file), "--only-page"]) == 0
    assert "| b-seed1 | failed: " in (file.parent / "out" / "page.md").read_text()
