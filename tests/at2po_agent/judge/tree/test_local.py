"""``at2po-agent eval --tree`` with a model in this process: every path has its number, and shared turns cost once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from at2po_agent.commands import main as cli
from at2po_agent.judge.episodes.records import EpisodeRecord, read_episodes
from at2po_agent.judge.tree.local import path_numbers
from at2po_agent.judge.tree.search import sampled
from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.method.tree import TurnNode, TurnTree

WORLD = ["env.world=tiny", "env.dialect=bare", "env.k=1", "env.max_searches=4", "limits.max_turn_tokens=24"]
SHAPE = ["expansion.chains=2", "expansion.per_round=2", "expansion.rounds=1"]
WORDS = ["eval", "--tree", "-e", "microwiki", "-m", "builtin:microwiki", "-n", "4", "-c", "4", "--split", "dev"]


def test_a_first_child_goes_on_with_the_path_of_its_parent_and_every_other_begins_one():
    tree = TurnTree((1,))
    # Two chains take two turns each, in lockstep; then the second turn of the first and the first of the second are
    # sampled again, and the last of these branches takes another turn.
    for parent in (0, 0, 1, 2, 1, 0, 6):
        tree.add(TurnNode(parent, 0, 1, action=(1,), logp=(-0.5,)))
    assert path_numbers(tree) == {1: 0, 2: 1, 3: 0, 4: 1, 5: 2, 6: 3, 7: 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("local")
    assert cli.main([*WORDS, *WORLD, *SHAPE, f"out={out}"]) == 0
    (path,) = out.iterdir()
    return path


def untimed(record: EpisodeRecord) -> dict[str, object]:
    return {**json.loads(record.to_line()), "seconds": 0}


def test_every_path_is_recorded_and_shared_turns_are_paid_for_once(run):
    found = sampled(read_episodes(run), EntropyGuided(2, 2, 1))
    assert len(found) == 4
    for one in found.values():
        assert one.chains[:2] == one.leaves[:2]
        assert sum(chain.tokens for chain in one.chains) >= one.budget > 0
    records = list(read_episodes(run))
    for record in records:
        if record.sample in (2, 3):
            siblings = [other for other in records if other.question_id == record.question_id and other.sample < 2]
            shared = [turn for turn in record.turns if turn.completion_tokens == 0]
            texts = [turn.text for turn in shared]
            assert any([turn.text for turn in other.turns[: len(texts)]] == texts for other in siblings)
        else:
            assert all(turn.completion_tokens for turn in record.turns)
        assert record.logprob < 0
    assert any(turn.completion_tokens == 0 for record in records for turn in record.turns)
    # A batch has one time, of which no path has an interval.
    summary = json.loads((run / "summary.json").read_text())
    assert "seconds" not in summary["means"] and summary["seconds_each"] > 0
    assert json.loads((run / "tree.json").read_text())["questions"] == 4


def test_a_question_that_is_missing_is_grown_again_to_the_same_paths(run):
    before = {record.key: untimed(record) for record in read_episodes(run)}
    lines = (run / "episodes.jsonl").read_bytes().splitlines(keepends=True)
    (run / "episodes.jsonl").write_bytes(b"".join(lines[:-2]))
    assert cli.main(["eval", "--resume", str(run)]) == 0
    assert {record.key: untimed(record) for record in read_episodes(run)} == before
