"""Chains, votes and trees against tokens, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.judge.tree.voting import Candidate, Sampled
from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.settings import ConfigError
from at2po_agent.study.black_box import Ways, family_level, read_evaluations, score, tree_differences
from tests.helpers.evaluations import answered, failed, write_run

SHAPE = EntropyGuided(chains=2, per_round=2, rounds=1)


def path(answer, em, logprob=-1.0, tokens=10):
    return Candidate(answer, em, logprob, tokens)


# A tree of 10 + 20 + 5 + 5 tokens, and chains of 10, 20, 8 and 12. All paths of the second question are right.
CHAINS = (path("A", 0.0, -0.5, 10), path("B", 1.0, -0.4, 20))
ONE = Sampled(
    chains=(*CHAINS, path("A", 0.0, -0.9, 8), path("B", 1.0, -0.1, 12)),
    leaves=(*CHAINS, path("B", 1.0, -2.0, 5), path("C", 0.0, -0.1, 5)),
)
TWO = Sampled(chains=(path("x", 1.0),) * 4, leaves=(path("x", 1.0),) * 4)


def test_every_way_answers_every_question_at_its_own_tokens():
    ways = Ways.of([ONE, TWO], SHAPE)
    one, two = ways.chains
    assert (one.name, one.em, one.oracle, one.tokens, one.paths) == ("1 chain", (0.5, 1.0), (0.5, 1.0), 12.5, 1)
    # A and B have one vote each, and B the higher log-probability.
    assert (two.name, two.em, two.oracle, two.tokens, two.paths) == ("2 chains", (1.0, 1.0), (1.0, 1.0), 25, 2)
    (tree,) = ways.trees
    assert (tree.name, tree.em, tree.tokens, tree.paths) == ("tree of 4 leaves", (1.0, 1.0), 40, 4)
    # 40 tokens pay for 10 + 20 + 8 in the first question, where A has two votes of three, and for four in the second.
    (matched,) = ways.matched
    assert (matched.em, matched.oracle, matched.tokens, matched.paths) == ((0.0, 1.0), (1.0, 1.0), 39, 3.5)
    assert score(matched).mean == 0.5


def test_numbers_of_chains_are_powers_of_two_and_all_that_a_tree_begins_with_in_disjoint_groups():
    question = Sampled(chains=tuple(path(str(i), float(i == 2)) for i in range(5)), leaves=())
    ways = Ways.of([question], EntropyGuided(chains=5, rounds=0))
    assert [way.name for way in ways.chains] == ["1 chain", "2 chains", "4 chains", "5 chains"]
    # Of the groups (0, 1) and (2, 3) one has the right answer, as the first of a tie; the fifth chain is in no group.
    assert [way.em for way in ways.chains] == [(0.2,), (0.5,), (0.0,), (0.0,)]
    assert ways.trees == ways.matched == ()


def test_each_round_of_a_tree_is_a_way():
    question = Sampled(chains=(path("a", 0.0),) * 6, leaves=(path("a", 0.0), *(path("b", 1.0, tokens=5),) * 4))
    ways = Ways.of([question], EntropyGuided(chains=1, per_round=2, rounds=2))
    assert [(way.name, way.em, way.tokens) for way in ways.trees] == [
        ("tree of 3 leaves", (1.0,), 20),
        ("tree of 5 leaves", (1.0,), 30),
    ]
    assert [(way.paths, way.em) for way in ways.matched] == [(2, (0.0,)), (3, (0.0,))]


@pytest.mark.parametrize(("differences", "level"), [(1, 0.95), (4, 0.95), (5, 0.99), (10, 0.995)])
def test_from_five_differences_on_intervals_hold_together(differences, level):
    assert family_level(differences) == pytest.approx(level)


def grown(id: str, *right: bool) -> list[EpisodeRecord]:
    """A tree of four leaves, of which each takes 25 tokens, and two further chains."""
    return [
        answered(id, "Walem" if one else f"wrong {number}", sample=number, logprob=-0.5)
        for number, one in enumerate(right)
    ]


def trees(folder: Path, **changes: object) -> Path:
    records = [*grown("q1", False, False, True, True, False, False), *grown("q2", *[True] * 6), failed("q3")]
    shape = {"chains": 2, "per_round": 2, "rounds": 1, "alpha": 0.05}
    return write_run(folder, records, questions=["q1", "q2", "q3", "q4"], tree=shape, **changes)


def test_a_tree_is_compared_with_chains_at_its_tokens_and_with_another_evaluation(tmp_path):
    greedy = write_run(tmp_path / "greedy", [answered("q1", "no"), answered("q2"), answered("q3")])
    (one,) = read_evaluations([greedy, trees(tmp_path / "trees", sampling={"temperature": 1.0, "seed": 3})])
    assert (one.questions, one.errors, one.asked) == (2, 1, 4)
    assert [way.name for way in one.ways.others] == ["1 chain, temperature 0"]
    chains, other = tree_differences([one])
    assert (chains.way.em, chains.other.em, other.other.em) == ((1.0, 1.0), (0.0, 1.0), (0.0, 1.0))
    # Bonett and Price: of the differences 1, 0, +1 and −1 the mean is 0.25 and the variance 0.6875.
    half = 1.959964 * (0.6875 / 4) ** 0.5
    assert (chains.em.mean, chains.em.low, chains.em.high) == (0.5, pytest.approx(0.25 - half, abs=1e-6), 1.0)
    assert (other.em, other.other.tokens) == (chains.em, 25)


@pytest.mark.parametrize(
    ("records", "changes", "why"),
    [
        ([answered("q1")], {}, "has no score of 1 of 2 questions that have trees, such as q2"),
        ([answered("q1"), answered("q2")], {"model": {"name": "another"}}, "no evaluation with --tree here has its"),
        ([answered("q1"), answered("q2")], {"limits": {"k": 9}}, "no evaluation with --tree here has its model"),
    ],
)
def test_an_evaluation_that_asked_something_else_is_refused(tmp_path, records, changes, why):
    other = write_run(tmp_path / "other", records, **changes)
    with pytest.raises(ConfigError, match=why):
        read_evaluations([trees(tmp_path / "trees"), other])


def test_an_evaluation_without_a_whole_tree_is_refused(tmp_path):
    run = write_run(tmp_path / "run", [failed("q1")], tree={"chains": 2, "per_round": 2, "rounds": 1, "alpha": 0.05})
    with pytest.raises(ConfigError, match="no question with a complete tree; continue with: at2po-agent eval --resume"):
        read_evaluations([run])
