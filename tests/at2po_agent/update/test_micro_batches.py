from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.update.micro_batches import shares
from at2po_agent.update.packing import plan


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.integers(1, 300), st.integers(1, 9))
def test_every_tree_is_forwarded_once_within_the_budget(sizes: list[int], max_tokens: int, processes: int) -> None:
    rounds = shares(sizes, max_tokens, processes)
    assert all(len(row) == processes for row in rounds)  # every process takes part in every round
    batches = [batch for row in rounds for batch in row]
    assert sorted(tree for batch in batches for tree in batch) == list(range(len(sizes)))
    assert all(len(batch) <= 1 or sum(sizes[tree] for tree in batch) <= max_tokens for batch in batches)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.integers(1, 300))
def test_one_process_keeps_the_micro_batches_that_it_had(sizes: list[int], max_tokens: int) -> None:
    assert shares(sizes, max_tokens, 1) == [[batch] for batch in plan(sizes, max_tokens)]


def test_tokens_are_balanced_in_every_round_and_in_all() -> None:
    assert shares([8, 7, 6, 5], 100, 2) == [[[0, 3], [1, 2]]]  # 13 and 13
    assert shares([8, 7, 6, 5], 8, 2) == [[[0], [1]], [[3], [2]]]  # 8 with 7, then 5 with 6: 13 and 13
    assert shares([9], 100, 3) == [[[0], [], []]]
