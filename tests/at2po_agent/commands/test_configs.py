from __future__ import annotations

import pytest

from at2po_agent.commands.configs import FOLDERS
from at2po_agent.commands.main import main
from at2po_agent.config_files import FOLDER, packaged, summary


def test_every_packaged_configuration_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    assert sorted(lines) == sorted([name, summary(path)] for name, path in packaged().items())
    assert {folder.name for folder in FOLDER.iterdir()} == set(FOLDERS)


def test_one_is_printed_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs", "no-tree"]) == 0
    assert capsys.readouterr().out == packaged()["no-tree"].read_text(encoding="utf-8")
    assert main(["configs", "no-three"]) == 2
    assert "did you mean no-tree?" in capsys.readouterr().err
