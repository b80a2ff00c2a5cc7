"""The analyzer that both engines share, so that they rank alike, and what else an index is built with."""

from __future__ import annotations

import re
import unicodedata

import tantivy

from search_backend.base import CorpusError

TITLE_BOOST = 3
"""How many times a title is counted beside its text, by default."""

MEMORY_MB = 512
"""Bound on the memory for building an index, by default."""

K1 = 1.2
B = 0.75
"""BM25's constants; tantivy compiles them in."""

MAX_QUERY_TERMS = 128
"""Distinct terms of a query that are searched, in order of appearance; the rest is ignored."""

MAX_TERM_BYTES = 255
"""Longer runs of letters and digits are neither indexed nor searched (Lucene's limit too)."""

ANALYZERS = ("standard", "english", "multilingual")

ACCENTED = re.compile("[À-ÖØ-öø-ɏ\u0300-\u036fḀ-ỿ]")
"""A Latin letter with an accent, or the accent itself."""

UNSPACED = re.compile(
    "["
    "\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Chinese
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u312f\u31a0-\u31bf\u31f0-\u31ff"  # kana, bopomofo
    "\uac00-\ud7a3"  # Korean, whose words take endings that a search leaves out
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecd"  # Thai, Lao
    "\u1000-\u103f\u1050-\u108f\u109a-\u109f\ua9e0-\ua9ef\uaa60-\uaa7f\u1780-\u17d3"  # Burmese, Khmer
    "]+"
)
"""A run of a script in which spaces do not part what a search asks for."""

_MARKS = re.compile("[\u0300-\u036f]")
_WIDE = re.compile("[\uff01-\uffef]+")


class Analyzer:
    """Text to terms: lower-cased maximal runs of letters and digits.

    ``english`` stems them. ``multilingual`` leaves accents out (é is e, ø is o, ß is ss, ё is е), full and half width
    are one, and of a run of Chinese, Japanese, Korean, Thai, Lao, Burmese or Khmer every letter and every two
    neighbours are a term: whatever a reader takes for a word is found in it. Text in ASCII has the terms of
    ``standard``.

    Raises:
        CorpusError: There is no analyzer of that name.
    """

    def __init__(self, name: str) -> None:
        if name not in ANALYZERS:
            raise CorpusError(f"unknown analyzer {name!r}; known: {', '.join(ANALYZERS)}")
        self._spells_out = name == "multilingual"
        builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        # Folding makes some terms longer (ß): then their length is looked at afterwards.
        if not self._spells_out:
            builder = builder.filter(tantivy.Filter.remove_long(MAX_TERM_BYTES + 1))
        builder = builder.filter(tantivy.Filter.lowercase())
        if name == "english":
            builder = builder.filter(tantivy.Filter.stemmer("english"))
        if self._spells_out:
            builder = builder.filter(tantivy.Filter.ascii_fold()).filter(tantivy.Filter.remove_long(MAX_TERM_BYTES + 1))
        self.engine: tantivy.TextAnalyzer = builder.build()
        """Makes the terms of text that was prepared."""

    def prepare(self, text: str) -> str:
        """The text as tantivy is given it."""
        if not self._spells_out or text.isascii():
            return text
        text = _WIDE.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
        text = unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", text)))
        return UNSPACED.sub(_spelled_out, text)

    def terms(self, text: str) -> list[str]:
        """The terms of a text, in order, with repetitions."""
        terms: list[str] = self.engine.analyze(self.prepare(text))
        return terms


def _spelled_out(run: re.Match[str]) -> str:
    """Every letter of a run and every two neighbours, as words; vowel signs and tones count for none."""
    letters = [letter for letter in run[0] if letter.isalnum()]
    # A letter, the pair that it begins, and so on: of a long query the first part is searched.
    words = [word for i in range(len(letters)) for word in (letters[i], "".join(letters[i : i + 2]))]
    return f" {' '.join(words[:-1])} "


def check_options(analyzer: str, title_boost: int, memory_mb: int) -> None:
    """Refuse what no index can be built with, before anything is read.

    Raises:
        CorpusError: One of them is wrong; the message names it.
    """
    if isinstance(title_boost, bool) or not isinstance(title_boost, int) or not 1 <= title_boost <= 100:
        raise CorpusError(f"title_boost must be an integer from 1 to 100, not {title_boost!r}")
    if memory_mb < 32:
        raise CorpusError(f"memory_mb must be at least 32, not {memory_mb!r}")
    Analyzer(analyzer)


def query_terms(analyzer: Analyzer, query: str) -> list[str]:
    """The distinct terms of a query, in order of appearance."""
    return list(dict.fromkeys(analyzer.terms(query.encode("utf-8", "replace").decode())))
