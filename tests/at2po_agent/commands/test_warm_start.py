"""``at2po-agent warm-start`` as it is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from at2po_agent.commands.main import main

FILE = """
env: {id: AT2PO-MicroWiki-v0, kwargs: {world: tiny, dialect: bare, k: 1, max_searches: 4}}
model: {path: 'builtin:microwiki'}
episodes: 16
fit: {batch: 8}
eval: {questions: 0}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "warm.yaml"
    path.write_text(FILE)
    return path


def test_a_policy_is_made(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "made"
    (more := tmp_path / "more.yaml").write_text("seed: 3\n")
    assert main(["warm-start", "--cfg", str(file), "--cfg", str(more), f"output={made}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == ("loading builtin:microwiki …", f"wrote {made}")
    record = json.loads((made / "warmstart.json").read_text())
    assert (record["config"]["episodes"], record["config"]["seed"]) == (16, 3)
    assert record["command"] == f"at2po-agent warm-start --cfg {file} --cfg {more} output={made}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("env.id=AT2PO-Nothing-v0", "AT2PO-Nothing"),
        ("model.path=builtin:x", "there is no policy 'builtin:x'"),
        ("episodes=0", "episodes is 0, it must be at least 1"),
        ("output={tmp}", "already exists"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_loaded(
    file: Path, tmp_path: Path, change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change = change.format(tmp=tmp_path)
    assert main(["warm-start", "--cfg", str(file), f"output={tmp_path / 'made'}", change]) == 2
    out, err = capsys.readouterr()
    assert not out and message in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["warm.yaml"]
