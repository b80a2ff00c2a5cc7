"""The language of MicroWiki: kinds of things, what relates them, and the plain English that says so.

Every thing has two passages under one title, and its facts are split over them. The two hold the same number of words
and name their subject equally often, so that under BM25 the words beside the name in a query decide which one is found:
the keyword of a relation stands in the passage that states it, the misleading word of a relation in the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

_STARTS = (
    "Ba Be Bi Bo Da Do Dra Du Fa Fe Fre Ga Go Gri Ha He Ho Ja Jo Ka Ke Ki Ko Kra La Le Lo Lu Ma Me Mi Mu Na Ne No Nu"
)
_STARTS += " Pa Pe Po Pra Ra Re Ri Ro Sa Se So Su Ta Te Ti To Tra Tu Va Ve Vi Vo Wa We Wo Ya Yo Za Ze Zi Zo Zu"
_ENDS = (
    "bak bel bon bur dak del dis dom fal fen gal gim gol gur hal him kar kel kin kos kul lan lem lin lor lum mak mel"
)
_ENDS += (
    " mir mon mus nal nek nim nor nul pak pel pir pod rak rel rin ron rud sak sel sim sor sul tak tel tim tor tul vak"
)
_ENDS += " vel vin von vur wal wen wik yan zak zel zin zor"

STARTS = tuple(_STARTS.split())
"""First syllables of names; open, so that every name has one reading as syllables."""
ENDS = tuple(_ENDS.split())
"""Later syllables of names: consonant, vowel, consonant."""

_TAKEN = "Babel Baron Basel Befal Bison Boron Bowen Damon Demon Denim Devon Dolor Donor Gavel Hazel Heron Honor Hotel"
_TAKEN += " Hovel Huron Kevin Label Lapel Legal Lemon Level Levin Manor Milan Minim Minor Motel Navel Nobel Nolan Novel"
_TAKEN += (
    " Patel Pavel Penal Ramon Razor Rebel Renal Repel Revel Rotor Salem Senor Sodom Tenor Travel Tutor Valor Visor"
)
_TAKEN += " Yodel Yokel"


@dataclass(frozen=True)
class Kind:
    """A kind of thing: how its titles look, how many of the things are of it, and its two passages."""

    share: float
    sides: Mapping[str, str]  # side → sentence; {X} is the title, other slots are facts and relations
    title: str = "{}"
    article: str = ""  # stands before the title inside a question
    aliases: tuple[str, ...] = ()  # further accepted forms, made from the bare name


@dataclass(frozen=True)
class Relation:
    """A fact that leads from one thing to another, and the queries that find it or miss it."""

    subject: str
    side: str
    target: str
    phrase: str  # "the author of": what stands before the subject in a question
    ask: str  # how a question begins whose answer this relation gives
    keyword: str  # stands in the passage of this side only
    misleading: str  # stands in the other passage only


@dataclass(frozen=True)
class Comparison:
    """A question that sets one number of two things of a kind against each other."""

    subject: str
    side: str
    fact: str
    question: str
    smallest: bool  # whether the smaller number wins
    keyword: str
    misleading: str


KINDS: Mapping[str, Kind] = {
    "person": Kind(
        share=0.40,
        sides={
            "life": "{X} was born in {birthplace} in {year} and learned everything from the teacher {teacher}.",
            "work": "{X} later worked as a {job} and made a career at the company {employer}.",
        },
    ),
    "town": Kind(
        share=0.20,
        sides={
            "land": "{X} is a {adjective} town on the {river} and has about {count} houses.",
            "people": "The mayor of {X} is {mayor}, who opened a new school there in {year}.",
        },
    ),
    "company": Kind(
        share=0.12,
        sides={
            "history": "{X} was founded in {year} by {founder} with the help of a rich {job}.",
            "trade": "{X} sells fine {goods} and has its seat near the {adjective} market of {seat}.",
        },
        aliases=("company {}",),
    ),
    "book": Kind(
        share=0.14,
        sides={
            "print": "{X} is a book written by {author} and printed by the company {publisher} in {year}.",
            "plot": "The story of {X} begins in {setting} on a {adjective} day and ends in {ending}.",
        },
    ),
    "river": Kind(
        share=0.07,
        sides={
            "course": "The {X} rises on {source} and runs through {count} valleys to the sea.",
            "size": "The {X} has a length of {length} km and a fleet of {count} boats.",
        },
        title="River {}",
        article="the ",
        aliases=("{}",),
    ),
    "mountain": Kind(
        share=0.07,
        sides={
            "ascent": "{X} was first climbed in {year} by {conqueror} with a guide and a rope.",
            "size": "{X} has a height of {height} m and snow on its top in {season}.",
        },
        title="Mount {}",
        aliases=("{}",),
    ),
}

RELATIONS: Mapping[str, Relation] = {
    "birthplace": Relation("person", "life", "town", "the birthplace of", "Which town is", "born", "worked"),
    "teacher": Relation("person", "life", "person", "the teacher of", "Who is", "teacher", "career"),
    "employer": Relation("person", "work", "company", "the employer of", "Which company is", "career", "learned"),
    "river": Relation("town", "land", "river", "the river of", "What is", "river", "school"),
    "mayor": Relation("town", "people", "person", "the mayor of", "Who is", "mayor", "town"),
    "founder": Relation("company", "history", "person", "the founder of", "Who is", "founded", "sells"),
    "seat": Relation("company", "trade", "town", "the seat of", "Which town is", "seat", "help"),
    "author": Relation("book", "print", "person", "the author of", "Who is", "written", "begins"),
    "publisher": Relation("book", "print", "company", "the publisher of", "Which company is", "printed", "ends"),
    "setting": Relation("book", "plot", "town", "the setting of", "Which town is", "story", "book"),
    "source": Relation("river", "course", "mountain", "the source of", "Which mountain is", "rises", "boats"),
    "conqueror": Relation("mountain", "ascent", "person", "the conqueror of", "Who is", "climbed", "snow"),
}

COMPARISONS: Mapping[str, Comparison] = {
    "born_earlier": Comparison("person", "life", "year", "Who was born earlier, {a} or {b}?", True, "born", "worked"),
    "older_company": Comparison(
        "company", "history", "year", "Which company is older, {a} or {b}?", True, "founded", "sells"
    ),
    "newer_book": Comparison("book", "print", "year", "Which book is newer, {a} or {b}?", False, "printed", "ends"),
    "longer_river": Comparison(
        "river", "size", "length", "Which river is longer, {a} or {b}?", False, "length", "valleys"
    ),
    "higher_mountain": Comparison(
        "mountain", "size", "height", "Which mountain is higher, {a} or {b}?", False, "height", "guide"
    ),
}

NUMBERS: Mapping[str, tuple[int, int]] = {
    "year": (1500, 2000),
    "count": (12, 99),
    "length": (40, 990),
    "height": (700, 6900),
}
"""Facts that are numbers: the smallest, and one past the largest."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "job": ("baker", "singer", "doctor", "painter", "sailor", "lawyer", "farmer", "clerk"),
    "adjective": ("quiet", "small", "cold", "sunny", "green", "busy", "lovely", "poor"),
    "goods": ("glass", "paper", "salt", "wool", "tea", "clocks", "shoes", "lamps"),
    "ending": ("peace", "tears", "joy", "war", "silence", "fire"),
    "season": ("spring", "summer", "autumn", "winter"),
}
"""Facts that are words."""

DETAILS = (
    "Visitors often praise the {adjective} mornings and the kind neighbours.",
    "An old letter from {other} mentions it with much respect.",
    "Many songs were sung about this during the long nights.",
    "Some say that {other} knew far more than anyone told.",
    "A {adjective} painting of the scene hangs in many homes.",
    "Records from that time were lost during a great storm.",
    "Children still hear about it from {adjective} grandparents every evening.",
    "Nobody can say exactly when the first rumours really started.",
    "In good years the harvest was shared with every guest.",
    "A {adjective} statue was planned, but money ran out twice.",
    "Newspapers of that period carried nothing but praise for months.",
    "Experts from abroad came to see things for their studies.",
    "The {adjective} weather of those years is remembered quite well.",
    "Few documents survive, and {other} is named in two others.",
    "Every autumn a {adjective} feast recalls what once happened here.",
    "What followed was described in full by {other} soon afterwards.",
)
"""Sentences that lengthen a passage: ten words each, and none of them a keyword or a misleading word."""


def names(syllables: int) -> list[str]:
    """Every name of so many syllables, in a fixed order, without words and places that exist."""
    taken = frozenset(_TAKEN.split())
    return [name for parts in product(STARTS, *[ENDS] * (syllables - 1)) if (name := "".join(parts)) not in taken]
