"""A real run, audited: replayed, sampled again, and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from at2po_agent.commands.main import main
from at2po_agent.study.audit import audit, auditable
from at2po_agent.training.config import load_config
from at2po_agent.training.run_dir import RunDirError
from at2po_agent.training.trainer import train
from tests.helpers.places import ROOT

# Three steps of training, and four audits.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audit") / "run"
    settings = [f"run_dir={path}", "train.steps=3", "rollout.questions=4", "update.mini_batch=4", "eval.questions=0"]
    settings += ["checkpoint.every=2", "log.trees_every=1", "threads=1", "seed=1"]
    train(load_config(ROOT / "examples" / "configs" / "quickstart.yaml", settings))
    return path


def test_steps_with_trees_and_their_policy(run):
    known = auditable(run)
    assert list(known) == [1, 3] and known[1] == "builtin:microwiki"
    assert known[3] == str(run / "checkpoints" / "step_000002" / "model")
    with pytest.raises(RunDirError, match=r"no stored trees and policy of step 2; steps that have both: 1, 3"):
        audit(run, 2, 4, 4, print)


def test_an_audit_is_repeatable_and_every_inner_turn_is_in_it(run):
    said: list[str] = []
    found = audit(run, 3, 4, 4, said.append)
    assert (found.trees, found.per_round, found.forks) == (4, 5, 4) and "4 of 4 trees" in said
    assert found.turns and {turn.tree for turn in found.turns} <= set(range(4))
    for turn in found.turns:
        assert 0 <= turn.changed <= 1 and turn.leaves >= 1 and turn.depth >= 1
        if not turn.signal:
            assert set(turn.values.values()) == {0.0}
    assert audit(run, 3, 4, 4, said.append) == found


def test_the_command(run, capsys):
    assert main(["audit", str(run), "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "step 1: builtin:microwiki"
    assert main(["audit", str(run), "--trees", "2", "--forks", "2"]) == 0
    assert "V(n) against fresh rollouts" in capsys.readouterr().out
    assert (run / "audit" / "step_000003" / "audit.json").is_file()
