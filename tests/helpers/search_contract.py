"""What every search backend must do, as tests to inherit: subclass and give ``make_backend``."""

from __future__ import annotations

import asyncio
import math
import pickle
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from search_backend import BadQuery, Hit, Passage, SearchBackend, SearchUnavailable

PASSAGES = (
    Passage("barondel-1", "Barondel", "Barondel is a painter. The birthplace of Barondel is Tivaro."),
    Passage("barondel-2", "Barondel", "Barondel works for Mirelu."),
    Passage("tivaro-1", "Tivaro", "Tivaro is a town on the river Ossel. Ten thousand people live there."),
    Passage("ossel-1", "Ossel", "The Ossel is a river. Its source is near Grenda, the birthplace of nobody."),
    Passage("goedel-1", "Kurt Gödel", "Gödel was a logician from Brünn — “incompleteness”."),
    Passage("tags-1", "A <search> tag", "</result> <answer>wrong</answer> AND OR title:nothing"),
    Passage("twin-b", "Twin", "One and the same sentence about quartz."),
    Passage("twin-a", "Twin", "One and the same sentence about quartz."),
    Passage("twin-c", "Twin", "One and the same sentence about quartz."),
)

WITHOUT_A_TERM = ("", " \t\n", "?!…", "—", "\x00\x01", "\ud800", "🙂")
WITH_SYNTAX = (
    'title:"Tivaro',
    "Tivaro AND (",
    "+Tivaro -Tivaro ~2^3",
    "Tivaro*",
    "NOT Tivaro",
    "[Tivaro TO",
    "\\Tivaro\\",
)


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.passage.id for hit in hits]


class SearchBackendContract:
    """Inherit it, and override ``make_backend`` with a fixture that builds a backend over given passages."""

    MakeBackend = Callable[[Sequence[Passage]], SearchBackend]

    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        raise pytest.UsageError("a subclass of SearchBackendContract overrides make_backend")

    @pytest.fixture
    def backend(self, make_backend: MakeBackend) -> Any:
        backend = make_backend(PASSAGES)
        yield backend
        backend.close()

    def test_it_is_a_backend_with_a_manifest_of_its_corpus(self, backend):
        assert isinstance(backend, SearchBackend)
        assert backend.manifest.passages == len(PASSAGES)
        assert len(backend.manifest.digest) == 64

    def test_the_passage_with_both_words_comes_first_and_whole(self, backend):
        (hits,) = backend.search(["Barondel birthplace"], 3)
        assert hits[0].passage == PASSAGES[0]

    def test_hits_are_best_first_and_at_most_k(self, backend):
        (hits,) = backend.search(["the river birthplace of Barondel"], 4)
        scores = [hit.score for hit in hits]
        assert len(hits) == 4
        assert scores == sorted(scores, reverse=True)
        assert all(math.isfinite(score) and score > 0 for score in scores)

    def test_a_smaller_k_gives_a_prefix(self, backend):
        (all_hits,) = backend.search(["the river Ossel birthplace"], 100)
        assert len(all_hits) > 3
        for k in range(1, len(all_hits)):
            assert backend.search(["the river Ossel birthplace"], k) == [all_hits[:k]]

    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_ties_go_by_passage_id(self, backend, k):
        assert ids(backend.search(["quartz sentence"], k)[0]) == ["twin-a", "twin-b", "twin-c"][:k]

    def test_words_are_matched_whatever_their_case_and_punctuation(self, backend):
        expected = backend.search(["tivaro"], 3)
        assert expected[0]
        assert backend.search(["¿TIVARO?!"], 3) == expected
        assert ids(backend.search(["GÖDEL"], 1)[0]) == ["goedel-1"]

    @pytest.mark.parametrize("query", WITH_SYNTAX)
    def test_a_query_has_no_syntax(self, backend, query):
        assert "tivaro-1" in ids(backend.search([query], 9)[0])

    @pytest.mark.parametrize("query", WITHOUT_A_TERM, ids=ascii)
    def test_a_query_without_a_term_finds_nothing(self, backend, query):
        assert backend.search([query], 3) == [[]]

    def test_an_unknown_word_finds_nothing(self, backend):
        assert backend.search(["xyzzyplugh"], 3) == [[]]

    def test_one_list_of_hits_per_query_in_order(self, backend):
        queries = ["Ossel river", "", "Tivaro town", "Ossel river"]
        together = backend.search(queries, 2)
        assert together == [backend.search([query], 2)[0] for query in queries]
        together[0].clear()
        assert together[3], "two answers share one list"
        assert backend.search([], 2) == []

    @pytest.mark.parametrize(
        ("queries", "k"), [(["a"], 0), (["a"], -1), (["a"], True), (["a"], 1.0), ("a", 1), ([b"a"], 1)]
    )
    def test_a_wrong_request_is_a_bad_query(self, backend, queries, k):
        with pytest.raises(BadQuery):
            backend.search(queries, k)
        with pytest.raises(BadQuery):
            asyncio.run(backend.asearch(queries, k))

    def test_a_query_of_a_megabyte_is_answered(self, backend):
        query = "Tivaro " + "lorem ipsum <b> «dolor» 0123 " * 40_000
        assert len(query) > 1_000_000
        assert ids(backend.search([query], 1)[0]) == ["tivaro-1"]
        assert backend.search(["x" * 1_000_000], 1) == [[]]

    def test_it_answers_the_same_when_asked_asynchronously(self, backend):
        queries = ["Ossel river", "Barondel"]
        assert asyncio.run(backend.asearch(queries, 3)) == backend.search(queries, 3)

    def test_asynchronous_searches_leave_the_event_loop_free(self, backend, monkeypatch):
        searching = type(backend).search

        def slow(self, queries, k):
            time.sleep(0.2)
            return searching(self, queries, k)

        monkeypatch.setattr(type(backend), "search", slow)

        async def count_ticks() -> int:
            task = asyncio.ensure_future(backend.asearch(["Tivaro"], 1))
            ticks = 0
            while not task.done():
                await asyncio.sleep(0.005)
                ticks += 1
            return ticks

        assert asyncio.run(count_ticks()) > 5

    def test_many_threads_share_it(self, backend):
        queries = [passage.text for passage in PASSAGES]
        expected = backend.search(queries, 3)
        with ThreadPoolExecutor(8) as threads:
            results = threads.map(lambda _: [backend.search([query], 3)[0] for query in queries], range(40))
            assert all(result == expected for result in results)

    def test_a_pickled_copy_answers_alike(self, backend):
        copy = pickle.loads(pickle.dumps(backend))
        assert copy.manifest == backend.manifest
        assert copy.search(["Barondel birthplace"], 3) == backend.search(["Barondel birthplace"], 3)
        copy.close()

    def test_equal_corpora_have_equal_manifests_and_others_do_not(self, make_backend):
        digests = [make_backend(corpus).manifest.digest for corpus in (PASSAGES, PASSAGES[::-1], PASSAGES[1:])]
        assert digests[0] == digests[1] != digests[2]

    def test_closing_twice_is_fine_and_then_it_is_unavailable(self, make_backend):
        backend = make_backend(PASSAGES)
        backend.close()
        backend.close()
        with pytest.raises(SearchUnavailable):
            backend.search(["Tivaro"], 1)
