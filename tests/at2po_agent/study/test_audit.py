"""Fresh rollouts beside stored turns, by hand; and a real run, audited: replayed, sampled again, and compared."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from at2po_agent.commands.main import main
from at2po_agent.method.algorithms import build
from at2po_agent.method.shaping import NoShaping
from at2po_agent.method.tree import ROOT as PROMPT
from at2po_agent.method.tree import TurnNode, TurnTree
from at2po_agent.rollouts.grow import Actor, grow
from at2po_agent.study.audit import Ending, audit, auditable, compare, sample
from at2po_agent.training.config import load_config
from at2po_agent.training.run_dir import RunDirError
from at2po_agent.training.session import Session
from at2po_agent.training.trainer import train
from tests.helpers.toys import Bytes, ChainsThenBranches, Scripted, ToyEnv
from tests.helpers.trained_runs import write_run

# Three steps of training, and four audits.
real = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audit") / "run"
    settings = [f"run_dir={path}", "train.steps=3", "rollout.questions=4", "update.mini_batch=4", "eval.questions=0"]
    settings += ["checkpoint.every=2", "log.trees_every=1", "threads=1", "seed=1"]
    train(load_config("quickstart", settings))
    return path


@real
def test_steps_with_trees_and_their_policy(run):
    known = auditable(run)
    assert list(known) == [1, 3] and known[1] == "builtin:microwiki"
    assert known[3] == str(run / "checkpoints" / "step_000002" / "model")
    with pytest.raises(RunDirError, match=r"does not store the trees of step 2 .* that it can audit: 1, 3"):
        audit(run, 2, 4, 4, print)


@real
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


@real
def test_the_command(run, capsys):
    assert main(["audit", str(run), "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "step 1: builtin:microwiki"
    assert main(["audit", str(run), "--trees", "2", "--forks", "2"]) == 0
    assert "V(n) against fresh rollouts" in capsys.readouterr().out
    assert (run / "audit" / "step_000003" / "audit.json").is_file()


class Encoder(Bytes):
    """Remembers the histories that were encoded anew."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def decode(self, ids: Any) -> str:
        return bytes(ids).decode()

    def encode_with_spans(self, text: str) -> list[tuple[int, int, int]]:
        self.read.append(text)
        return [(byte, 0, 0) for byte in text.encode()]


@pytest.mark.parametrize("tokens", ["exact", "retokenise"])
def test_fresh_rollouts_read_the_histories_that_the_run_read(tokens):
    env, codec, engine = ToyEnv(), Encoder(), Scripted()
    env.reset(options={"task_id": "q"})
    actor = Actor(engine, codec)
    tree = asyncio.run(grow(env, actor, ChainsThenBranches(), key=(1,), question_id="q"))
    session: Any = Session(env, env, None, codec, engine, build("grpo"), actor, None, None)  # type: ignore[arg-type]
    config = load_config(None, ["policy.path=p", "env.id=Toy-v0", f"rollout.tokens={tokens}"])
    (fresh,) = asyncio.run(sample(session, config, 1, [(0, TurnTree.from_json(tree.to_json()))], 2))
    assert list(fresh) == [PROMPT, *tree.inner_turns()] and {len(ends) for ends in fresh.values()} == {2}
    assert bool(codec.read) == (tokens == "retokenise")


def branched_while_it_ran() -> TurnTree:
    """A chain of two inner turns that ends with 1; after its first, a branch that ended before it with 0."""
    tree = TurnTree((1,), question_id="q")
    tree.add(TurnNode(PROMPT, 0, 1, (5,), (-1.0,), (6,)))
    tree.add(TurnNode(1, 0, 2, (5,), (-1.0,), (6,)))
    tree.add(TurnNode(1, 0, 2, (5,), (-1.0,), leaf=True, reward=0.0))
    tree.add(TurnNode(2, 0, 3, (5,), (-1.0,), leaf=True, reward=1.0))
    return tree


def test_a_turn_is_compared_with_the_end_of_its_own_chain():
    fresh = {n: [Ending(1.0, 1.0), Ending(0.0, 0.0)] for n in range(3)}
    first, second = compare(0, branched_while_it_ran(), fresh, NoShaping())
    assert (first.stored, second.stored, first.changed) == (1.0, 1.0, 0.5)


def test_a_penalty_for_length_is_no_other_outcome():
    def shaping(tree: TurnTree) -> dict[int, float]:
        return {leaf: reward - 0.5 for leaf, reward in NoShaping()(tree).items()}

    fresh = {n: [Ending(1.0, 0.25), Ending(1.0, 0.75)] for n in range(3)}
    first, _ = compare(0, branched_while_it_ran(), fresh, shaping)
    assert (first.changed, first.fresh) == (0.0, 0.5)
    assert first.true == pytest.approx((0.5 - 0.0) / 0.5, abs=1e-5)  # shaped rewards of the tree: 0.5 and -0.5


def test_a_copy_of_a_checkpoint_is_none(tmp_path):
    path = write_run(tmp_path / "run", [[0], [1]])
    for step in (1, 3):
        (path / "trees" / f"step_{step:06d}.jsonl.zst").touch()
    for name in ("step_000002", "step_000002-copy"):
        (path / "checkpoints" / name / "model").mkdir(parents=True)
    assert auditable(path) == {1: "p", 3: str(path / "checkpoints" / "step_000002" / "model")}
