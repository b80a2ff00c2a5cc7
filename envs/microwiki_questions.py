"""Questions about a MicroWiki, with the searches that answer them and the searches that an imperfect searcher makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

from at2po_env.state import Question

from .microwiki_text import COMPARISONS, RELATIONS, Comparison, Relation
from .microwiki_world import Dice, Entity, World, shares

TRIES = 200
"""Draws in a row that may repeat an earlier question before a split counts as exhausted."""

_KEYWORDS = tuple(sorted({r.keyword for r in RELATIONS.values()} | {c.keyword for c in COMPARISONS.values()}))


Drawn = tuple[str, Entity, dict[str, Any], tuple[str, ...]]  # question, answer, metadata, supporting titles


def ask(world: World, split: str, count: int, hops: Sequence[float], comparison: float) -> tuple[Question, ...]:
    """Make ``count`` different questions about the things of ``split``; ``hops[n - 1]`` is the share of n hops.

    The first few hundred have the same mix as all of them, so that an evaluation may stop there.

    ``Question.metadata`` holds, one item per search: ``plan`` (the queries that find the answer), ``passages`` (the id
    of the passage each should find), ``chain`` (what is read there; of a bridge question, the last item is the answer),
    ``relations`` and ``wrong`` (faulty queries: ``keyword`` finds the other passage of the same thing, always with the
    same word for a relation; ``random`` has another keyword; ``entity`` the right keyword beside another name, where
    possible one from the passage just read). ``type`` is ``single``, ``bridge`` or ``comparison``, ``hops`` the number
    of searches.

    Raises:
        ValueError: the split has too few things for so many different questions.
    """
    counts = shares(count, {**dict(enumerate(hops, 1)), 0: comparison})
    dice = Dice(world.seed, "questions", split)
    spread: list[tuple[float, Drawn]] = []  # each number of hops is spread evenly between 0 and 1
    for n, wanted in counts.items():
        for number, drawn in enumerate(_different(world, split, n, wanted, dice)):
            spread.append(((number + dice.below(1000) / 1000) / wanted, drawn))
    spread.sort(key=itemgetter(0))
    return tuple(
        Question(f"{split}-{number:06d}", text, answer.answers, titles, metadata)
        for number, (_, (text, answer, metadata, titles)) in enumerate(spread)
    )


def _different(world: World, split: str, hops: int, wanted: int, dice: Dice) -> Iterator[Drawn]:
    """Questions of so many hops (0: comparisons), no two alike."""
    paths = _paths(hops)
    seen: set[str] = set()
    failures = 0
    while len(seen) < wanted:
        drawn = _bridge(world, split, dice.pick(paths), dice) if hops else _compare(world, split, len(seen), dice)
        if drawn is not None and drawn[0] not in seen:
            seen.add(drawn[0])
            yield drawn
            failures = 0
            continue
        failures += 1
        if failures > TRIES:
            kind = f"{hops}-hop" if hops else "comparison"
            raise ValueError(
                f"MicroWiki: {split}_questions wants {wanted} different {kind} questions, more than {split}_entities "
                "gives; ask for fewer questions or more entities"
            )


def _paths(hops: int) -> list[tuple[str, ...]]:
    """Every chain of so many relations in which each starts at the kind where the one before ends."""
    paths: list[tuple[str, ...]] = [()]
    for _ in range(hops):
        paths = [
            (*path, name)
            for path in paths
            for name, relation in RELATIONS.items()
            if not path or RELATIONS[path[-1]].target == relation.subject
        ]
    return paths


def _bridge(world: World, split: str, path: tuple[str, ...], dice: Dice) -> Drawn | None:
    """Walk ``path`` from a random start; nothing when the walk meets a thing twice."""
    chain = [world.entities[dice.pick(world.members[split][RELATIONS[path[0]].subject])]]
    for name in path:
        chain.append(world.entities[chain[-1].links[name]])
    if len({entity.index for entity in chain}) < len(chain):
        return None
    relations = [RELATIONS[name] for name in path]
    text = chain[0].mention
    for relation in relations:
        text = f"{relation.phrase} {text}"
    subjects = chain[:-1]
    metadata = {
        "type": "single" if len(path) == 1 else "bridge",
        "hops": len(path),
        "relations": list(path),
        "plan": [f"{e.title} {r.keyword}" for e, r in zip(subjects, relations, strict=True)],
        "passages": [e.passage_id(r.side) for e, r in zip(subjects, relations, strict=True)],
        "chain": [entity.title for entity in chain[1:]],
        "wrong": [
            _wrong(entity, relation, _distraction(world, subjects[: step + 1], path[:step], dice), dice)
            for step, (entity, relation) in enumerate(zip(subjects, relations, strict=True))
        ],
    }
    return f"{relations[-1].ask} {text}?", chain[-1], metadata, tuple(e.title for e in subjects)


def _compare(world: World, split: str, number: int, dice: Dice) -> Drawn | None:
    """Set two random things of a kind against each other; nothing when they are equal.

    Every sort of comparison comes equally often, and has its answer first as often as second.
    """
    names = tuple(COMPARISONS)
    name, place = names[number // 2 % len(names)], number % 2
    comparison = COMPARISONS[name]
    members = world.members[split][comparison.subject]
    pair = [world.entities[dice.pick(members)] for _ in range(2)]
    pair.sort(key=lambda entity: int(entity.facts[comparison.fact]), reverse=comparison.smallest == (place == 1))
    values = [entity.facts[comparison.fact] for entity in pair]
    if values[0] == values[1]:
        return None
    metadata = {
        "type": "comparison",
        "hops": 2,
        "relations": [name, name],
        "plan": [f"{entity.title} {comparison.keyword}" for entity in pair],
        "passages": [entity.passage_id(comparison.side) for entity in pair],
        "chain": values,
        "wrong": [_wrong(entity, comparison, other, dice) for entity, other in zip(pair, reversed(pair), strict=True)],
    }
    text = comparison.question.format(a=pair[0].mention, b=pair[1].mention)
    return text, pair[place], metadata, tuple(entity.title for entity in pair)


def _wrong(entity: Entity, relation: Relation | Comparison, other: Entity, dice: Dice) -> dict[str, str]:
    return {
        "keyword": f"{entity.title} {relation.misleading}",
        "random": f"{entity.title} {dice.other(_KEYWORDS, relation.keyword)}",
        "entity": f"{other.title} {relation.keyword}",
    }


def _distraction(world: World, chain: Sequence[Entity], path: Sequence[str], dice: Dice) -> Entity:
    """The wrong answer of a careless reader: another name in the passage just read."""
    if not path:
        start = chain[-1]
        return world.entities[dice.other(world.members[start.split][start.kind], start.index)]
    read = RELATIONS[path[-1]]
    subject = chain[-2]
    beside = [
        target
        for name, target in subject.links.items()
        if RELATIONS[name].side == read.side and target != chain[-1].index
    ]
    return world.entities[dice.pick(beside)] if beside else subject
