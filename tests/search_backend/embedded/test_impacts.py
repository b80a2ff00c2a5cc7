from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tantivy
from hypothesis import given, settings
from hypothesis import strategies as st

from search_backend import CorpusError, EmbeddedIndex, Passage
from search_backend.analysis import Analyzer
from search_backend.embedded import build, impacts
from tests.helpers.search_contract import ids

COMMON = [f"common{i}" for i in range(20)]


@pytest.fixture(autouse=True)
def always_columns(monkeypatch):
    """Columns for queries of any words, which look at few passages at a time."""
    monkeypatch.setattr(impacts, "WORTHWHILE", 1)
    monkeypatch.setattr(impacts, "CHUNK", 16)


def plain_and_with_columns(folder, passages, *, batch=1_000):
    """An index that was opened before it had columns, and the same one opened since."""
    plain = EmbeddedIndex.build(Path(folder) / "index", passages)
    impacts.write(plain.directory, Analyzer("standard"), batch)
    return plain, EmbeddedIndex.open(plain.directory)


def texts(n, words, seed=0):
    """``n`` texts of 1 to 12 words, the first words more often than the last."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, len(words) + 1)
    return [" ".join(rng.choice(words, rng.integers(1, 13), p=share / share.sum())) for _ in range(n)]


WORDS = ["the", "of", "in", "Of", "a", "b", "c", "quartz", "flint", *(f"rare{i}" for i in range(6))]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_hits_scores_and_order_are_those_of_the_engine(data):
    """With ties, passages that come again, words that come again, more hits than there are, and words of no passage."""
    line = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
    contents = data.draw(st.lists(st.tuples(st.sampled_from(["", "The", "Quartz a"]), line), min_size=1, max_size=60))
    passages = [Passage(f"{(i * 7) % 61:02d}", title, text) for i, (title, text) in enumerate(contents)]
    queries = data.draw(
        st.lists(st.lists(st.sampled_from([*WORDS, "nowhere"]), max_size=7).map(" ".join), min_size=1, max_size=6)
    )
    rare_hits = data.draw(st.sampled_from([1, 4, 1_000]))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, pytest.MonkeyPatch.context() as patch:
        # How many passages the engine finds for the words without a column, before bounds say whether that is enough.
        patch.setattr(impacts, "RARE_HITS", rare_hits)
        plain, columns = plain_and_with_columns(folder, passages, batch=data.draw(st.sampled_from([7, 1_000])))
        for k in (1, 3, 20, 100):
            assert columns.search(queries, k) == plain.search(queries, k)


@pytest.mark.parametrize("analyzer", ["standard", "english"])
def test_an_index_of_several_segments_ranks_alike(tmp_path, monkeypatch, analyzer):
    n, rare = 1_500, [f"rare{i}" for i in range(200)]
    passages = [
        Passage(f"p{(i * 7919) % n:05d}", f"Title{i // 6}", text) for i, text in enumerate(texts(n, [*COMMON, *rare]))
    ]
    plain = EmbeddedIndex.build(tmp_path / "plain", passages, analyzer=analyzer)
    monkeypatch.setattr(impacts, "FROM", 1)
    monkeypatch.setattr(impacts, "CHUNK", 256)
    monkeypatch.setattr(build, "PARALLEL_FROM", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    columns = EmbeddedIndex.build(tmp_path / "columns", passages, analyzer=analyzer)
    assert len(list((tmp_path / "columns").glob("*.term"))) == 2
    assert columns.manifest == plain.manifest
    queries = [*texts(20, COMMON, seed=1), *texts(20, [*COMMON, *rare], seed=2)]
    queries += [f"title{i} {text}" for i, text in enumerate(texts(20, COMMON, seed=3))]
    for k in (1, 3, 10):
        assert columns.search(queries, k) == plain.search(queries, k)


def test_columns_rank_common_words_and_leave_other_queries_to_the_engine(tmp_path, monkeypatch):
    passages = [Passage(f"{i:03d}", "", text) for i, text in enumerate(texts(300, COMMON))]
    plain, _ = plain_and_with_columns(tmp_path, passages)
    engine = tantivy.Index.open(str(plain.directory))
    opened = impacts.open_columns(plain.directory, engine.searcher(), engine.schema)
    queries = texts(20, COMMON[:5])
    expected = [[(hit.score, hit.passage.id) for hit in hits] for hits in plain.search(queries, 3)]
    best = [opened.best(list(dict.fromkeys(query.split())), 3) for query in queries]
    assert [[(score, f"{address.doc:03d}") for score, address in top] for top in best] == expected
    assert opened.best(COMMON[:5], impacts.MOST_HITS + 1) is None
    assert opened.best(["nowhere"], 3) is None
    monkeypatch.setattr(impacts, "WORTHWHILE", 1_000_000)
    assert opened.best(COMMON[:5], 3) is None


def test_a_small_index_has_no_columns(tmp_path):
    index = EmbeddedIndex.build(tmp_path / "index", [Passage("a", "", "the river")])
    assert not list((tmp_path / "index").glob("impact*"))
    assert ids(index.search(["the"], 1)[0]) == ["a"]


def test_an_index_without_common_words_has_no_columns(tmp_path):
    passages = [Passage(f"{i}", "", f"word{i}") for i in range(30)]
    plain, columns = plain_and_with_columns(tmp_path, passages)
    assert not list(plain.directory.glob("impact*"))
    assert columns.search(["word3 word4"], 2) == plain.search(["word3 word4"], 2)


def test_damaged_columns_are_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(impacts, "FROM", 1)
    EmbeddedIndex.build(tmp_path / "index", [Passage(f"{i}", "", "the same") for i in range(30)]).close()
    columns = tmp_path / "index" / "impacts.npy"
    columns.write_bytes(b"x" * columns.stat().st_size)
    with pytest.raises(CorpusError, match=r"cannot be opened.*build it again"):
        EmbeddedIndex.open(tmp_path / "index")
    words = tmp_path / "index" / "impacts.json"
    for text in ("{}", "[]"):
        words.write_text(text.ljust(words.stat().st_size))
        with pytest.raises(CorpusError, match=r"cannot be opened.*build it again"):
            EmbeddedIndex.open(tmp_path / "index")
    columns.unlink()
    with pytest.raises(CorpusError, match=r"impacts\.npy is missing"):
        EmbeddedIndex.open(tmp_path / "index")
