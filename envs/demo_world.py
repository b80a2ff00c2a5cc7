"""The Isles of Tessaly: a small fictional world, written for this project, that the bundled demo questions are about.

No person, place, work or firm in it exists; a name that also exists does so by accident. Columns are divided by ``|``;
a name in a column that refers to another table is that table's first column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

_ISLANDS = """
Great Tessal  | Quillhaven | 1,204 | copper and slate
Merrow Isle   | Ostrevel   | 688   | herring and salt
Sunder Isle   | Vantry     | 951   | wool and honey
Outer Calloch | Eskeld     | 317   | peat and amber
"""

_TOWNS = """
Quillhaven   | Great Tessal  | River Anlow  | 1142 | Quill Haven, City of Quillhaven | its glass bridges
Brackmoor    | Great Tessal  | River Anlow  | 1367 | Old Brackmoor                   | its slate quarries
Lunnimere    | Great Tessal  | River Dessen | 1210 | Lunni                           | its floating market
Ostrevel     | Merrow Isle   | River Hask   | 1098 | Port Ostrevel                   | its herring fleet
Tarrowick    | Merrow Isle   | River Hask   | 1455 | Tarrow                          | its salt pans
Vantry       | Sunder Isle   | River Oume   | 1289 | Vantry Town                     | its wool exchange
Pellarin     | Sunder Isle   | River Oume   | 1533 | Pellarin-on-Oume                | its honey fair
Hathmoor     | Sunder Isle   | River Sill   | 1604 | Hath                            | its observatory
Eskeld       | Outer Calloch | River Varn   | 1321 | Eskeld Harbour                  | its amber workshops
Sedgeholm    | Outer Calloch | River Varn   | 1711 | Holm of Sedge                   | its peat railway
"""

_PEOPLE = """
Orla Vensgate      | film director  | Quillhaven | 1921 | Aldous Vensgate   | Orla M. Vensgate
Aldous Vensgate    | architect      | Brackmoor  | 1889 | Bertil Vensgate   | A. Vensgate
Bertil Vensgate    | shipwright     | Ostrevel   | 1858 | Corvin Vensgate   | Old Bertil
Ivo Maltrane       | film director  | Vantry     | 1934 | Sander Maltrane   | Ivo the Elder
Sander Maltrane    | cartographer   | Pellarin   | 1901 | Gregor Maltrane   | S. Maltrane
Gregor Maltrane    | lighthouse keeper | Eskeld  | 1870 | Tobin Maltrane    | Keeper Maltrane
Tamsin Quorrel     | composer       | Lunnimere  | 1927 | Emeric Quorrel    | Tamsin Q.
Emeric Quorrel     | organ builder  | Tarrowick  | 1896 | Lothar Quorrel    | E. Quorrel
Lothar Quorrel     | clockmaker     | Sedgeholm  | 1866 | Anders Quorrel    | Lothar the Clockmaker
Nerys Haldane-Bray | novelist       | Eskeld     | 1912 | Piers Haldane     | N. H. Bray
Piers Haldane      | botanist       | Hathmoor   | 1883 | Ewart Haldane     | Professor Haldane
Rurik Osterlane    | novelist       | Tarrowick  | 1938 | Matthis Osterlane | R. Osterlane
Matthis Osterlane  | ferry captain  | Ostrevel   | 1905 | Joren Osterlane   | Captain Osterlane
Sunniva Drell      | film director  | Hathmoor   | 1945 | Casimir Drell     | Sunny Drell
Casimir Drell      | astronomer     | Hathmoor   | 1915 | Ottmar Drell      | Cas Drell
Ulric Fenwether    | composer       | Sedgeholm  | 1909 | Hollis Fenwether  | U. Fenwether
Hollis Fenwether   | peat merchant  | Eskeld     | 1878 | Garrick Fenwether | Hollis F.
Brenna Tolliskey   | inventor       | Pellarin   | 1899 | Dunstan Tolliskey | B. Tolliskey
Dunstan Tolliskey  | beekeeper      | Vantry     | 1868 | Hale Tolliskey    | Dun Tolliskey
Leopold Arrengar   | inventor       | Brackmoor  | 1930 | Simeon Arrengar   | Leo Arrengar
Simeon Arrengar    | quarryman      | Brackmoor  | 1898 | Walt Arrengar     | Sim Arrengar
Maribel Stroud-Enn | novelist       | Lunnimere  | 1951 | Felix Stroud      | M. S. Enn
"""

_FILMS = """
The Salt Lantern       | 1958 | Orla Vensgate | Tamsin Quorrel  | drama
Nine Winters at Hask   | 1963 | Orla Vensgate | Ulric Fenwether | war film
The Glassmaker's Debt  | 1971 | Orla Vensgate | Tamsin Quorrel  | mystery film
Amber Road             | 1966 | Ivo Maltrane  | Ulric Fenwether | adventure film
A Compass for Elsin    | 1974 | Ivo Maltrane  | Tamsin Quorrel  | family film
The Last Ferry Bell    | 1981 | Ivo Maltrane  | Tamsin Quorrel  | thriller
Honey and Iron         | 1979 | Sunniva Drell | Ulric Fenwether | comedy
The Observatory Affair | 1985 | Sunniva Drell | Tamsin Quorrel  | mystery film
"""

_NOVELS = """
The Peat Cutter's Almanac | 1941 | Nerys Haldane-Bray | satire
Letters from Calloch Head | 1949 | Nerys Haldane-Bray | epistolary novel
A Tide of Small Hours     | 1969 | Rurik Osterlane    | sea story
The Herring Accord        | 1976 | Rurik Osterlane    | political novel
Seven Keys to Lunnimere   | 1983 | Maribel Stroud-Enn | detective novel
The Moth Cartographer     | 1990 | Maribel Stroud-Enn | fantasy novel
"""

_FIRMS = """
Tolliskey Lampworks | 1926 | Brenna Tolliskey | Pellarin   | the Tolliskey storm lamp
Arrengar Engines    | 1957 | Leopold Arrengar | Lunnimere  | the Arrengar tide pump
Oume Valley Radio   | 1932 | Brenna Tolliskey | Vantry     | the Honeybox receiver
Calloch Instruments | 1968 | Leopold Arrengar | Eskeld     | the Varn barometer
"""


@dataclass(frozen=True)
class Thing:
    """One article: its title, other names, facts (column → value) and text."""

    title: str
    facts: Mapping[str, str]
    text: str
    aliases: tuple[str, ...] = ()

    def __getitem__(self, column: str) -> str:
        return self.facts[column]

    @property
    def names(self) -> tuple[str, ...]:
        """The title, then the other names."""
        return (self.title, *self.aliases)


_TABLES: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "island": (
        _ISLANDS,
        ("title", "seat", "area", "goods"),
        "{title} is one of the four Isles of Tessaly. Its seat of government is {seat}. It covers {area} square "
        "kilometres and trades in {goods}.",
    ),
    "town": (
        _TOWNS,
        ("title", "island", "river", "founded", "aliases", "known"),
        "{title}, also called {first_alias}, is a town on {island} in the Isles of Tessaly. It lies on the {river}, "
        "was founded in {founded} and is known for {known}.",
    ),
    "person": (
        _PEOPLE,
        ("title", "occupation", "birthplace", "born", "father", "aliases"),
        "{title}, also known as {first_alias}, was a Tessalian {occupation}, born in {born} in {birthplace}. "
        "{title} was the child of {father}.",
    ),
    "film": (
        _FILMS,
        ("title", "year", "director", "composer", "genre"),
        "{title} is a Tessalian {genre} released in {year}. It was directed by {director}, and its music was written "
        "by {composer}.",
    ),
    "novel": (
        _NOVELS,
        ("title", "year", "author", "genre"),
        "{title} is a {genre} by {author}, first published in {year}.",
    ),
    "firm": (
        _FIRMS,
        ("title", "founded", "founder", "seat", "product"),
        "{title} is a Tessalian manufacturer founded in {founded} by {founder}. Its head office is in {seat}, and it "
        "is best known for {product}.",
    ),
}


@dataclass(frozen=True)
class World:
    """All articles by kind, then by title."""

    kinds: Mapping[str, Mapping[str, Thing]]

    def all(self, kind: str) -> list[Thing]:
        """The things of a kind, in the order of their table."""
        return list(self.kinds[kind].values())

    def follow(self, thing: Thing, column: str, kind: str) -> Thing:
        """The thing that a column names."""
        return self.kinds[kind][thing[column]]

    def articles(self) -> Iterator[Thing]:
        """Every thing."""
        for things in self.kinds.values():
            yield from things.values()


@cache
def world() -> World:
    """The world, read from its tables."""
    return World({kind: dict(_things(*table)) for kind, table in _TABLES.items()})


def _things(table: str, columns: tuple[str, ...], sentence: str) -> Iterator[tuple[str, Thing]]:
    for row in table.strip().splitlines():
        facts = dict(zip(columns, (cell.strip() for cell in row.split("|")), strict=True))
        aliases = tuple(facts.get("aliases", "").split(", ")) if "aliases" in facts else ()
        text = sentence.format(**facts, first_alias=aliases[0] if aliases else "")
        yield facts["title"], Thing(facts["title"], facts, text, aliases)
