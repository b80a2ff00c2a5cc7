"""The things of a MicroWiki, their facts and relations, and the passages that state them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from search_backend.base import Passage

from .microwiki_text import DETAILS, ENDS, KINDS, NUMBERS, RELATIONS, STARTS, WORDS, Kind, names

SPLITS = ("train", "dev", "test")

T = TypeVar("T")


class Dice:
    """Draws that are a pure function of a key, on every Python version.

    Python keeps only ``Random.random`` stable between versions, so everything is made of that.
    """

    def __init__(self, *key: str | int) -> None:
        self._random = random.Random("/".join(map(str, key)))

    def below(self, n: int) -> int:
        """A whole number from 0 to ``n - 1``."""
        return int(self._random.random() * n)

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def other(self, items: Sequence[T], than: T) -> T:
        """One of the items, but not ``than``; there must be another."""
        while (item := self.pick(items)) == than:
            pass
        return item

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in another order."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing: its title, its facts (slot → text) and the things it leads to (relation → index in the world)."""

    index: int
    kind: str
    name: str
    split: str
    facts: Mapping[str, str]
    links: Mapping[str, int]
    swapped: bool  # whether the second side's passage has the smaller id

    @property
    def title(self) -> str:
        """The title of both of its passages."""
        return KINDS[self.kind].title.format(self.name)

    @property
    def mention(self) -> str:
        """The title as it stands inside a sentence."""
        return KINDS[self.kind].article + self.title

    @property
    def answers(self) -> tuple[str, ...]:
        """The title, then the other accepted forms."""
        return (self.title, *(form.format(self.name) for form in KINDS[self.kind].aliases))

    def passage_id(self, side: str) -> str:
        """The id of one of its two passages.

        Backends break ties by id. A query that favours neither side finds one or the other by chance, so that no side
        can be had without its keyword.
        """
        first = next(iter(KINDS[self.kind].sides))
        return f"{self.index:06d}-{int((side == first) == self.swapped)}"


@dataclass(frozen=True)
class World:
    """All things, and for each split the members of each kind."""

    seed: int
    detail: int
    entities: tuple[Entity, ...]
    members: Mapping[str, Mapping[str, range]]  # split → kind → indices

    def passages(self) -> Iterator[Passage]:
        """Two passages per thing, in order of their ids."""
        for entity in self.entities:
            dice = Dice(self.seed, "detail", entity.index) if self.detail else None
            linked = {relation: self.entities[target].title for relation, target in entity.links.items()}
            sides = list(KINDS[entity.kind].sides.items())
            for side, sentence in reversed(sides) if entity.swapped else sides:
                text = sentence.format(X=entity.title, **entity.facts, **linked)
                if dice is not None:
                    text = " ".join((text, *self._details(entity, dice)))
                yield Passage(entity.passage_id(side), entity.title, text)

    def _details(self, entity: Entity, dice: Dice) -> Iterator[str]:
        people = self.members[entity.split]["person"]
        order = dice.shuffled(DETAILS)
        for position in range(self.detail):
            other = self.entities[dice.other(people, entity.index)].title
            yield order[position % len(order)].format(adjective=dice.pick(WORDS["adjective"]), other=other)


def build(seed: int, sizes: Mapping[str, int], detail: int) -> World:
    """Make the things of every split. Relations stay inside a split; names are shared out over all of them."""
    members = _members(sizes)
    titles = _names(seed, sum(sizes.values()))
    dice = Dice(seed, "facts")
    entities: list[Entity] = []
    for split, kinds in members.items():
        for kind, indices in kinds.items():
            for index in indices:
                facts = {slot: _fact(slot, dice) for slot in _FACTS[kind]}
                links = {relation: dice.other(kinds[target], index) for relation, target in _LINKS[kind].items()}
                entities.append(Entity(index, kind, titles[index], split, facts, links, dice.below(2) == 1))
    return World(seed, detail, tuple(entities), members)


def _slots(kind: Kind) -> list[str]:
    return [slot for slot in (*NUMBERS, *WORDS) if any(f"{{{slot}}}" in sentence for sentence in kind.sides.values())]


_FACTS = {name: _slots(kind) for name, kind in KINDS.items()}
_LINKS = {kind: {name: r.target for name, r in RELATIONS.items() if r.subject == kind} for kind in KINDS}


def _fact(slot: str, dice: Dice) -> str:
    if slot in NUMBERS:
        low, high = NUMBERS[slot]
        return str(low + dice.below(high - low))
    return dice.pick(WORDS[slot])


def _members(sizes: Mapping[str, int]) -> dict[str, dict[str, range]]:
    members: dict[str, dict[str, range]] = {}
    start = 0
    for split, size in sizes.items():
        counts = shares(size, {name: kind.share for name, kind in KINDS.items()})
        members[split] = {}
        for name, count in counts.items():
            members[split][name] = range(start, start + count)
            start += count
    return members


def _names(seed: int, count: int) -> list[str]:
    """So many different names: the fewest syllables that give enough."""
    syllables = 2
    while len(STARTS) * len(ENDS) ** (syllables - 1) * 0.9 < count:
        syllables += 1
    return Dice(seed, "names").shuffled(names(syllables))[:count]


def shares(total: int, weights: Mapping[T, float]) -> dict[T, int]:
    """Whole counts that add up to ``total``, the rest goes to the largest remainders of ``weights``."""
    exact = {key: total * weight for key, weight in weights.items()}
    counts = {key: int(value + 1e-9) for key, value in exact.items()}
    by_remainder = sorted(exact, key=lambda key: counts[key] - exact[key])
    for key in by_remainder[: total - sum(counts.values())]:
        counts[key] += 1
    return counts
