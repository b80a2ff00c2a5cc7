"""The bundled split ``demo``: for each benchmark a few dozen questions of its kind about a fictional world.

It lets every id run anywhere, and is never used unless it is asked for by name. A score on it says nothing about the
benchmark whose form it borrows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from at2po_env.dataset import Dataset
from at2po_env.state import Question
from search_backend.base import Passage

from .demo_world import Thing, World, world

DEMO = "demo"

Asked = tuple[str, tuple[str, ...], tuple[str, ...], dict[str, Any]]  # question, answers, supporting titles, metadata


@dataclass(frozen=True)
class Demo:
    """Questions and the passages to search, with the digest of both."""

    questions: tuple[Question, ...]
    passages: tuple[Passage, ...]
    digest: str


def _demo(ask: Callable[[World], Iterator[Asked]]) -> Callable[[], Demo]:
    @cache
    def make() -> Demo:
        asked: Iterable[Asked] = ask(world())
        questions = tuple(Question(f"{DEMO}-{index}", *parts) for index, parts in enumerate(asked))
        passages = tuple(Passage(f"{DEMO}-{i}", thing.title, thing.text) for i, thing in enumerate(world().articles()))
        texts = "\n".join((Dataset.of(questions).digest, *(f"{p.id}\t{p.title}\t{p.text}" for p in passages)))
        return Demo(questions, passages, hashlib.sha256(texts.encode()).hexdigest())

    return make


@_demo
def hotpotqa(isles: World) -> Iterator[Asked]:
    """Bridge questions, and comparisons with names, yes or no."""
    bridge, comparison = {"type": "bridge", "level": "medium"}, {"type": "comparison", "level": "easy"}
    for film in isles.all("film"):
        director, composer = (isles.follow(film, role, "person") for role in ("director", "composer"))
        where = f"In which town was the director of the film {film.title} born?"
        yield _asked(where, director["birthplace"], film, director, **bridge)
        when = f"The music of {film.title} was written by a composer born in what year?"
        yield _asked(when, composer["born"], film, composer, **bridge)
    for one, two in pairwise(isles.all("novel")):
        which = f"Which novel was published first, {one.title} or {two.title}?"
        yield _asked(which, _smaller(one, two, "year").title, one, two, **comparison)
    for one, two in pairwise(isles.all("town")):
        same = "yes" if one["river"] == two["river"] else "no"
        yield _asked(f"Do {one.title} and {two.title} lie on the same river?", same, one, two, **comparison)


@_demo
def twowiki(isles: World) -> Iterator[Asked]:
    """The four types of 2WikiMultiHopQA."""
    for novel in isles.all("novel"):
        author = isles.follow(novel, "author", "person")
        where = f"What is the place of birth of the author of {novel.title}?"
        yield _asked(where, author["birthplace"], novel, author, type="compositional")
    for person in isles.all("person"):
        if person["father"] in isles.kinds["person"]:
            father = isles.follow(person, "father", "person")
            who = f"Who is the paternal grandfather of {person.title}?"
            yield _asked(who, father["father"], person, father, type="inference")
    for one, two in pairwise(isles.all("person")[::2]):
        who = f"Who was born first, {one.title} or {two.title}?"
        yield _asked(who, _smaller(one, two, "born").title, one, two, type="comparison")
    films = isles.all("film")
    for one, two in zip(films[:4], films[4:], strict=True):
        first, second = (isles.follow(film, "director", "person") for film in (one, two))
        if first is not second:
            earlier = one if _smaller(first, second, "born") is first else two
            which = f"Which film has the director who was born earlier, {one.title} or {two.title}?"
            yield _asked(which, earlier.title, one, first, two, second, type="bridge_comparison")


@_demo
def musique(isles: World) -> Iterator[Asked]:
    """Compositions of two, three and four hops, with the other names of an answer as aliases."""
    for firm in isles.all("firm"):
        founder = isles.follow(firm, "founder", "person")
        town = isles.follow(founder, "birthplace", "town")
        island = isles.follow(town, "island", "island")
        seat = isles.follow(island, "seat", "town")
        where = f"Where was the founder of the maker of {firm['product']} born?"
        yield _asked(where, town.names, firm, founder, hops=2)
        river = f"On what river lies the birthplace of the founder of {firm.title}?"
        yield _asked(river, town["river"], firm, founder, town, hops=3)
        capital = f"On what river lies the seat of the island where the founder of {firm.title} was born?"
        yield _asked(capital, seat["river"], firm, founder, town, island, seat, hops=4)
    for film in isles.all("film"):
        director, composer = (isles.follow(film, role, "person") for role in ("director", "composer"))
        town = isles.follow(director, "birthplace", "town")
        when = f"When was the birthplace of the director of {film.title} founded?"
        yield _asked(when, town["founded"], film, director, town, hops=3)
        yield _asked(f"Who was the father of the composer of {film.title}?", composer["father"], film, composer, hops=2)


@_demo
def bamboogle(isles: World) -> Iterator[Asked]:
    """Two facts each of which is easy to find, that stand together nowhere."""
    for novel in isles.all("novel"):
        author = isles.follow(novel, "author", "person")
        yield _asked(f"When was the author of {novel.title} born?", author["born"], novel, author)
        yield _asked(f"Who was the father of the writer of {novel.title}?", author["father"], novel, author)
    for island in isles.all("island"):
        seat = isles.follow(island, "seat", "town")
        yield _asked(f"What river flows through the seat of {island.title}?", seat["river"], island, seat)
        yield _asked(f"In what year was the seat of {island.title} founded?", seat["founded"], island, seat)
    for firm in isles.all("firm"):
        town = isles.follow(firm, "seat", "town")
        where = f"On which island is the head office of the maker of {firm['product']}?"
        yield _asked(where, town["island"], firm, town)


@_demo
def nq(isles: World) -> Iterator[Asked]:
    """Questions as people type them into a search engine: lower case, no question mark, one fact."""
    for film in isles.all("film"):
        yield _asked(f"who directed the movie {film.title.lower()}", film["director"], film)
        yield _asked(f"when did {film.title.lower()} come out", film["year"], film)
    for novel in isles.all("novel"):
        author = isles.follow(novel, "author", "person")
        yield _asked(f"who wrote the book {novel.title.lower()}", author.names, novel)
    for town in isles.all("town"):
        known = (town["known"], town["known"].removeprefix("its "))
        yield _asked(f"what is {town.title.lower()} known for", known, town)


@_demo
def triviaqa(isles: World) -> Iterator[Asked]:
    """Quiz questions whose answers go by several names, the normalised ones among them."""
    for person in isles.all("person"):
        town = isles.follow(person, "birthplace", "town")
        known = f"{person['occupation']} {person.title}, born in {person['born']}"
        yield _asked(f"Which Tessalian town was the birthplace of {known}?", _with_lower_case(town.names), person)
    for firm in isles.all("firm"):
        founder = isles.follow(firm, "founder", "person")
        who = f"Which inventor set up {firm.title} in {firm['founded']}?"
        yield _asked(who, _with_lower_case(founder.names), firm)
    for film in isles.all("film"):
        composer = isles.follow(film, "composer", "person")
        who = f"Who wrote the music for the {film['year']} {film['genre']} {film.title}?"
        yield _asked(who, _with_lower_case(composer.names), film)


@_demo
def popqa(isles: World) -> Iterator[Asked]:
    """PopQA's templates, one relation each."""
    for person in isles.all("person"):
        yield _asked(f"What is {person.title}'s occupation?", person["occupation"], person, type="occupation")
        town = isles.follow(person, "birthplace", "town")
        yield _asked(f"In what city was {person.title} born?", town.names, person, type="place of birth")
    for film in isles.all("film"):
        director = isles.follow(film, "director", "person")
        yield _asked(f"Who was the director of {film.title}?", director.names, film, type="director")
        yield _asked(f"What genre is {film.title}?", film["genre"], film, type="genre")
    for novel in isles.all("novel"):
        author = isles.follow(novel, "author", "person")
        yield _asked(f"Who is the author of {novel.title}?", author.names, novel, type="author")


def _asked(question: str, answers: str | tuple[str, ...], *support: Thing, **metadata: Any) -> Asked:
    titles = tuple(dict.fromkeys(thing.title for thing in support))
    return question, (answers,) if isinstance(answers, str) else answers, titles, metadata


def _with_lower_case(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, *(name.lower() for name in names))))


def _smaller(one: Thing, two: Thing, column: str) -> Thing:
    assert one[column] != two[column]
    return min(one, two, key=lambda thing: int(thing[column]))
