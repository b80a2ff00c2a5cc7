"""``audit`` before anything is sampled; a whole one is in ``study/test_audit.py``."""

from __future__ import annotations

import signal

import pytest

from at2po_agent.commands.main import main
from at2po_agent.signals import Interrupted
from at2po_agent.study.audit import Audit, read_audit
from at2po_agent.study.audit_page import write_audit
from tests.helpers.audited import audited_turn
from tests.helpers.trained_runs import write_run


def test_what_is_refused(tmp_path, capsys):
    run = str(write_run(tmp_path / "run", [[0, 1], [1, 1]]))
    assert main(["audit", run, "--list"]) == 0 and capsys.readouterr().out == ""
    assert main(["audit", run]) == 2
    assert "stores the trees and the policy that sampled them of no step" in capsys.readouterr().err
    assert main(["audit", run, "--forks", "1"]) == 2
    assert "--forks 2 or more" in capsys.readouterr().err
    assert main(["audit", str(tmp_path)]) == 2
    assert "not a run directory" in capsys.readouterr().err


def test_finished_audits_of_several_seeds_are_joined(tmp_path, capsys):
    for seed, entropy in (1, 0.9), (2, 0.1):
        write_audit(tmp_path / f"s{seed}", Audit(f"at2po-seed{seed}", 7, 8, 1, 2, (audited_turn(1, entropy=entropy),)))
    folders = [str(tmp_path / f"s{seed}") for seed in (1, 2)]
    assert main(["audit", "--join", *folders, "--out", str(tmp_path / "both")]) == 0
    both = read_audit(tmp_path / "both")
    assert (both.run, both.trees, both.step) == ("at2po-seed1, at2po-seed2", 4, 7)
    # Trees of different runs stay different trees.
    assert [(turn.tree, turn.entropy) for turn in both.turns] == [(1, 0.9), (3, 0.1)]
    written = (tmp_path / "both" / "audit.md").read_text()
    assert "# Audit of at2po-seed1, at2po-seed2" in written
    assert f"at2po-agent audit --join {' '.join(folders)} --out {tmp_path / 'both'}\n" in written


def test_what_cannot_be_joined(tmp_path, capsys):
    write_audit(tmp_path / "a", Audit("a", 7, 8, 1, 2, (audited_turn(0),)))
    write_audit(tmp_path / "b", Audit("b", 4, 8, 1, 2, (audited_turn(0),)))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "audit.json").write_text('{"run": "c"}')
    a, b, c, out = (str(tmp_path / name) for name in ("a", "b", "c", "out"))
    for words, message in (
        ([a, b, "--join"], "add --out DIR"),
        ([a, b, "--join", "--out", out], "a and b differ in step: 7 and 4"),
        ([a, c, "--join", "--out", out], "make the audit again"),
        ([a, str(tmp_path), "--join", "--out", out], "has no audit.json"),
        ([a, b], "one RUN is audited at a time"),
    ):
        assert main(["audit", *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_one_line(tmp_path, capsys, monkeypatch, number):
    def interrupted(*arguments: object) -> None:
        raise Interrupted(number)

    monkeypatch.setattr("at2po_agent.study.audit.audit", interrupted)
    assert main(["audit", str(write_run(tmp_path / "run", [[0, 1]]))]) == 128 + number
    assert capsys.readouterr().err == f"at2po-agent: interrupted by {number.name}\n"
