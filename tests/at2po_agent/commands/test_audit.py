"""``audit`` before anything is sampled; a whole one is in ``study/test_audit.py``."""

from __future__ import annotations

import signal

import pytest

from at2po_agent.commands.main import main
from at2po_agent.signals import Interrupted
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_one_line(tmp_path, capsys, monkeypatch, number):
    def interrupted(*arguments: object) -> None:
        raise Interrupted(number)

    monkeypatch.setattr("at2po_agent.study.audit.audit", interrupted)
    assert main(["audit", str(write_run(tmp_path / "run", [[0, 1]]))]) == 128 + number
    assert capsys.readouterr().err == f"at2po-agent: interrupted by {number.name}\n"
