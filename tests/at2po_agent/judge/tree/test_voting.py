"""Votes, ties and budgets, by hand."""

from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.judge.tree.voting import METHODS, Candidate, Sampled, budgets, curve, exact_match_at, majority, within


def path(answer, em=0.0, logprob=-1.0, tokens=10):
    return Candidate(answer, em, logprob, tokens)


def test_the_answer_that_most_paths_give_wins_however_it_is_written():
    paths = [path("London", logprob=-0.1), path("the Paris!", logprob=-2.0), path("paris", logprob=-3.0)]
    assert majority(paths) == paths[1]


def test_ties_go_to_the_higher_mean_logprob_then_to_the_first():
    one, two = path("A", logprob=-1.0), path("B", logprob=-0.5)
    assert majority([one, two]) == two
    # (−0.2 − 1.0)/2 = −0.6 against (−0.5 − 0.5)/2 = −0.5: the mean of the class decides, not its best path.
    paths = [path("a", logprob=-0.2), path("B", logprob=-0.5), path("A", logprob=-1.0), path("b", logprob=-0.5)]
    assert majority(paths) == paths[1]
    assert majority([path("x"), path("y")]).answer == "x"


def test_paths_without_an_answer_have_no_vote():
    assert majority([path(None, logprob=0.0), path(None, logprob=0.0), path("A", logprob=-9.0)]).answer == "A"
    assert majority([path(None)]) is None
    assert majority([]) is None


def test_a_budget_pays_for_whole_paths_in_their_order():
    paths = [path("a", tokens=10), path("b", tokens=30), path("c", tokens=1)]
    assert [len(within(paths, budget)) for budget in (9, 10, 39, 40, 41)] == [0, 1, 1, 2, 3]


# Two chains of 10 and 20 tokens; two branches of 5 tokens each; two more chains of 8 and 12: 40 tokens in the tree.
CHAINS = (path("A", 0.0, -0.5, 10), path("B", 1.0, -0.4, 20))
ONE = Sampled(
    chains=(*CHAINS, path("A", 0.0, -0.9, 8), path("B", 1.0, -0.1, 12)),
    leaves=(*CHAINS, path("B", 1.0, -2.0, 5), path("C", 0.0, -0.1, 5)),
)


def test_every_method_is_held_to_the_tokens_of_the_tree():
    assert ONE.budget == 40
    em = {name: exact_match_at(name, ONE) for name in METHODS}
    assert em == {
        "one chain": 0.0,
        "majority of chains": 0.0,  # 10 + 20 + 8 = 38: the last chain does not fit, and A has two votes
        "majority of leaves": 1.0,  # B has two
        "best chain (oracle)": 1.0,
        "best leaf (oracle)": 1.0,
    }
    assert {name: len(method.paths(ONE)) for name, method in METHODS.items()} == {
        "one chain": 1,
        "majority of chains": 3,
        "majority of leaves": 4,
        "best chain (oracle)": 3,
        "best leaf (oracle)": 4,
    }


def test_the_curve_by_hand():
    at = [9, 10, 30, 35, 1000]
    assert curve([ONE], at) == {
        "one chain": [0, 0, 0, 0, 0],
        "majority of chains": [0, 0, 1, 1, 0],  # at 30 a tie that B's log-probability decides; 1000 is cut to 40
        "majority of leaves": [0, 0, 1, 1, 1],
        "best chain (oracle)": [0, 0, 1, 1, 1],
        "best leaf (oracle)": [0, 0, 1, 1, 1],
    }
    other = Sampled(chains=(path("x", 1.0, tokens=4),), leaves=(path("x", 1.0, tokens=4),))
    assert curve([ONE, other], [4, 10])["majority of leaves"] == [0.5, 0.5]
    assert budgets([ONE, other], points=3) == [4, 22, 40]


candidates = st.lists(
    st.builds(Candidate, st.sampled_from([None, "a", "b", "c"]), st.just(0.0), st.floats(-5, 0), st.integers(1, 9)),
    min_size=1,
    max_size=8,
)


@given(candidates)
def test_a_majority_has_at_least_as_many_votes_as_any_answer_and_oracles_bound_votes(paths):
    scored = [Candidate(one.answer, float(one.answer == "a"), one.logprob, one.tokens) for one in paths]
    chosen = majority(scored)
    votes = [one.answer for one in scored if one.answer is not None]
    if chosen is None:
        assert not votes
    else:
        assert votes.count(chosen.answer) == max(map(votes.count, votes))
    one = Sampled(tuple(scored), tuple(scored))
    for budget in (None, 5, 20):
        best = exact_match_at("best leaf (oracle)", one, budget)
        assert best >= exact_match_at("majority of leaves", one, budget)


def test_more_budget_never_takes_paths_away():
    counts = [len(METHODS["majority of chains"].paths(ONE, budget)) for budget in range(50)]
    assert counts == sorted(counts)
    assert max(counts) == 3
