from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.microwiki import generate, world_config
from envs.microwiki_text import RELATIONS
from envs.microwiki_world import SPLITS, Dice, shares


def test_dice_fall_alike_for_one_key_and_otherwise_for_another():
    throws = {key: [dice.below(1000) for _ in range(20)] for key in ("a", "b") for dice in (Dice(0, key),)}
    again = Dice(0, "a")
    assert [again.below(1000) for _ in range(20)] == throws["a"] != throws["b"]


@given(st.integers(), st.lists(st.integers(), unique=True))
def test_shuffling_loses_and_adds_nothing(seed, items):
    before = list(items)
    assert sorted(Dice(seed).shuffled(items)) == sorted(before)
    assert items == before


def test_shuffling_is_fair():
    dice = Dice("fair")
    orders = Counter(tuple(dice.shuffled("abc")) for _ in range(6000))
    assert len(orders) == 6
    assert all(850 < count < 1150 for count in orders.values())  # 5 sigma


@given(st.integers(0, 10_000), st.lists(st.integers(0, 100), min_size=1, max_size=6).filter(any))
def test_shares_add_up_and_are_never_off_by_one_or_more(total, weights):
    parts = {i: weight / sum(weights) for i, weight in enumerate(weights)}
    counts = shares(total, parts)
    assert sum(counts.values()) == total
    assert all(abs(counts[i] - total * part) < 1 + 1e-6 for i, part in parts.items())


def test_titles_are_unique_and_relations_stay_in_their_split_and_kind():
    world = generate(world_config("tiny"))
    assert len({entity.name for entity in world.entities}) == len(world.entities) == 320
    assert [entity.index for entity in world.entities] == list(range(320))
    for entity in world.entities:
        assert set(entity.links) == {name for name, r in RELATIONS.items() if r.subject == entity.kind}
        for name, index in entity.links.items():
            target = world.entities[index]
            assert index != entity.index
            assert (target.split, target.kind) == (entity.split, RELATIONS[name].target)


def test_every_split_has_every_kind():
    world = generate(world_config("tiny"))
    for split in SPLITS:
        assert min(len(indices) for indices in world.members[split].values()) >= 5


def test_which_passage_comes_first_is_a_coin_throw():
    world = generate(world_config("small"))
    swapped = sum(entity.swapped for entity in world.entities) / len(world.entities)
    assert swapped == pytest.approx(0.5, abs=0.04)  # 5 sigma
    ids = [passage.id for passage in world.passages()]
    assert ids == sorted(ids)


def test_details_lengthen_both_passages_and_change_no_fact():
    short, long = (list(generate(world_config({"preset": "tiny", "detail": detail})).passages()) for detail in (0, 3))
    for before, after in zip(short, long, strict=True):
        assert after.id == before.id and after.text.startswith(before.text)
        assert len(after.text.split()) == len(before.text.split()) + 30
