"""``audit`` before anything is sampled; a whole one is in ``study/test_audit.py``."""

from __future__ import annotations

from at2po_agent.commands.main import main
from tests.helpers.trained_runs import write_run


def test_what_is_refused(tmp_path, capsys):
    run = str(write_run(tmp_path / "run", [[0, 1], [1, 1]]))
    assert main(["audit", run, "--list"]) == 0 and capsys.readouterr().out == ""
    assert main(["audit", run]) == 2
    assert "no stored trees and policy of step 0; steps that have both: none" in capsys.readouterr().err
    assert main(["audit", run, "--forks", "1"]) == 2
    assert "--forks 2 or more" in capsys.readouterr().err
    assert main(["audit", str(tmp_path)]) == 2
    assert "not a run directory" in capsys.readouterr().err
