"""Rewards before credit: DAPO's eq. 13 by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.method.shaping import NoShaping, OverlongPenalty
from at2po_agent.method.tree import ROOT, TurnNode, TurnTree


@pytest.mark.parametrize(
    ("length", "penalty"),
    [(0, 0.0), (16384, 0.0), (16385, -1 / 4096), (18432, -0.5), (20479, -4095 / 4096), (20480, -1.0), (30000, -1.0)],
)
def test_the_papers_own_numbers(length: int, penalty: float) -> None:
    """L_max = 20,480 and L_cache = 4,096, which is also what is taken where no cache is given."""
    assert OverlongPenalty(4096, 20480).penalty(length) == penalty
    assert OverlongPenalty(None, 20480).penalty(length) == penalty


def chain(*turns: tuple[int, int], ended: str = "answer", reward: float = 1.0) -> TurnTree:
    """One path of turns with so many action and observation tokens, under a prompt of 50 tokens."""
    tree, at = TurnTree(prompt=(1,) * 50), ROOT
    for i, (action, observation) in enumerate(turns):
        last = i == len(turns) - 1
        node = TurnNode(at, 0, i + 1, (2,) * action, (-1.0,) * action, (3,) * observation, leaf=last)
        at = tree.add(node)
    tree[at].reward, tree[at].ended = reward, ended
    return tree


def test_actions_and_observations_of_a_path_count_and_its_prompt_does_not() -> None:
    shaping = OverlongPenalty(cache=10, max_response_tokens=100)
    assert shaping(chain((30, 40), (20, 0))) == {2: 1.0}  # 90 tokens: just not in the buffer
    assert shaping(chain((30, 40), (25, 0), reward=0.0)) == {2: -0.5}  # 95
    assert NoShaping()(chain((30, 40), (25, 0), reward=0.5)) == {2: 0.5}


def test_a_path_that_the_limit_cut_gets_the_full_penalty_however_short_it_was_cut() -> None:
    shaping = OverlongPenalty(cache=10, max_response_tokens=100)
    assert shaping(chain((30, 0), ended="length_limit", reward=-1.0)) == {1: -2.0}


@given(st.integers(1, 500), st.integers(1, 500), st.integers(0, 600))
def test_the_penalty_never_falls_as_a_response_gets_shorter(cache: int, longest: int, length: int) -> None:
    shaping = OverlongPenalty(min(cache, longest), longest)
    assert -1 <= shaping.penalty(length + 1) <= shaping.penalty(length) <= 0
    assert shaping.penalty(longest) == -1 and shaping.penalty(longest - min(cache, longest)) == 0


def test_what_cannot_be_a_penalty_is_refused() -> None:
    with pytest.raises(ValueError, match="cache is 0"):
        OverlongPenalty(cache=0)
    with pytest.raises(ValueError, match="cache is 11, more than the 10 tokens"):
        OverlongPenalty(cache=11, max_response_tokens=10)
    with pytest.raises(ValueError, match="needs max_response_tokens"):
        OverlongPenalty().penalty(3)
