"""The numbers of an evaluation, worked by hand; the question is the unit, and an error is no zero."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.intervals import share_interval
from at2po_agent.judge.episodes.records import EpisodeRecord, TurnRecord
from at2po_agent.judge.results.metrics import Prices, Summary, pass_at_k, summarise


def turn(kind: str, prompt_tokens: int = 10, completion_tokens: int = 2) -> TurnRecord:
    action = {"kind": kind, "content": "x", "why": None}
    return TurnRecord("x", action, "", prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)


def episode(question: str, em: float, sample: int = 0, **more: object) -> EpisodeRecord:
    made: dict[str, object] = {"prediction": "x", "f1": em, "contains": em, "turns": (turn("search"), turn("answer"))}
    return EpisodeRecord(question, sample, "?", ("gold",), "answer", em=em, **made | more)  # type: ignore[arg-type]


def failed(question: str, sample: int = 0) -> EpisodeRecord:
    return EpisodeRecord(question, sample, "?", ("gold",), "error", error="HTTP 500", turns=(turn("search"),))


def test_an_error_is_counted_and_scores_nothing():
    found = summarise([episode("a", 1), failed("b"), episode("c", 0)])
    assert (found.questions, found.episodes, found.errors) == (2, 2, 1)
    assert found.means["em"] == share_interval([1.0, 0.0])
    assert (found.prompt_tokens, found.completion_tokens) == (50, 10)  # its tokens were paid for


def test_samples_are_averaged_before_questions_are():
    # a: 1 of 4, b: 1 of 1 (3 were lost): (0.25 + 1) / 2, not 2 of 5
    episodes = [episode("a", em, sample) for sample, em in enumerate((1, 0, 0, 0))]
    found = summarise([*episodes, episode("b", 1), *(failed("b", sample) for sample in (1, 2, 3))])
    assert found.means["em"] == share_interval([0.25, 1.0])
    assert found.means["em"].n == found.questions == 2


def test_pass_at_k_leaves_out_questions_with_too_few_samples():
    episodes = [episode("a", em, sample) for sample, em in enumerate((1, 0, 0, 0))]
    found = summarise([*episodes, episode("b", 1)])
    assert {k: (value.mean, value.n) for k, value in found.pass_at.items()} == {
        2: (pytest.approx(0.5), 1),
        4: (1.0, 1),
    }
    assert summarise([episode("a", 1), episode("b", 0)]).pass_at == {}


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_one(samples, data):
    k = data.draw(st.integers(1, len(samples)))
    subsets = list(itertools.combinations(samples, k))
    share = sum(any(subset) for subset in subsets) / len(subsets)
    assert pass_at_k(len(samples), sum(samples), k) == pytest.approx(share)


@pytest.mark.parametrize(("samples", "correct", "k"), [(3, 1, 4), (3, 1, 0), (3, 4, 1)])
def test_pass_at_k_refuses_what_it_cannot_estimate(samples, correct, k):
    with pytest.raises(ValueError, match="cannot be estimated"):
        pass_at_k(samples, correct, k)


def test_what_an_episode_spent():
    spent = summarise([episode("a", 1, searches=3, seconds=2.5)], Prices(prompt=2.0, completion=10.0))
    shown = {name: spent.means[name].mean for name in ("searches", "turns", "seconds", "prompt_tokens")}
    assert shown == {"searches": 3, "turns": 2, "seconds": 2.5, "prompt_tokens": 20}
    assert spent.means["cost"].mean == pytest.approx((20 * 2 + 4 * 10) / 1e6)
    assert spent.cost == pytest.approx(80e-6)


def test_what_is_not_known_is_left_out_and_not_zero():
    found = summarise([episode("a", 1, recall=0.5), episode("b", 1)])
    assert found.means["recall"].mean == 0.5
    assert found.means["recall"].n == 1
    assert not {"recall", "cost"} & set(summarise([episode("a", 1)]).means)
    assert summarise([failed("a")]).means == {}


def test_an_episode_that_went_on_after_a_malformed_turn_counts_as_malformed():
    went_on = episode("a", 1, turns=(turn("malformed"), turn("answer")))
    assert summarise([went_on, episode("b", 1)]).means["malformed"].mean == 0.5


def test_a_summary_comes_back_from_json():
    found = summarise([episode("a", 1, 0), episode("a", 0, 1), failed("b")], Prices(1, 2))
    assert Summary.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.fault("item 15: leaves of a tree are not pooled with its chains")
@given(st.lists(st.booleans(), min_size=2, max_size=6), st.lists(st.booleans(), max_size=6))
def test_means_of_trees_are_those_of_their_chains_whatever_the_other_paths_are(chains, others):
    paths = [episode("a", float(right), sample) for sample, right in enumerate([*chains, *others])]
    found, alone = summarise(paths, chains=len(chains)), summarise(paths[: len(chains)])
    assert (found.means, found.pass_at, found.episodes) == (alone.means, alone.pass_at, len(chains))
    assert found.completion_tokens == 4 * len(paths)  # all of them were paid for


@pytest.mark.fault("item 15: seconds of a local evaluation have no interval")
def test_episodes_of_a_batch_have_a_share_of_its_time_and_no_interval():
    episodes = [episode("a", 1, seconds=0.5), episode("b", 0, seconds=0.5), episode("c", 0, seconds=2.0)]
    found = summarise(episodes, batched=True)
    assert "seconds" not in found.means and found.seconds_each == 1.0
    assert Summary.from_json(json.loads(json.dumps(found.to_json()))) == found
    alone = summarise(episodes)
    assert alone.means["seconds"].mean == 1.0 and alone.seconds_each is None
