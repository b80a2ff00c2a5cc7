"""``at2po-agent eval`` of a local policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from at2po_agent.commands.main import main

TINY = ["-m", "builtin:microwiki", "-e", "AT2PO-MicroWiki-v0", "-n", "4", "--split", "dev"]
WORLD = "env={world: tiny, dialect: bare, k: 1, max_searches: 4}"


def test_a_local_policy_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["eval", *TINY, WORLD]) == 0
    out, err = capsys.readouterr()
    assert err == "loading builtin:microwiki …\n" and "run directory: runs/" in out
    (summary,) = Path("runs").glob("*/summary.json")
    assert json.loads(summary.read_text())["episodes"] == 4


def test_a_dry_run_loads_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["eval", *TINY, WORLD, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert "4" in out and not err
    assert list(tmp_path.iterdir()) == []
