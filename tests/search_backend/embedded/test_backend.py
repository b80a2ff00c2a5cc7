from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import multiprocessing
import os
import re
import tempfile
from pathlib import Path

import pytest
import tantivy
from hypothesis import given, settings
from hypothesis import strategies as st

import search_backend
from search_backend import CorpusError, EmbeddedIndex, Passage, SearchUnavailable, read_passages
from search_backend.analysis import Analyzer
from search_backend.embedded import files
from tests.helpers.search_contract import PASSAGES, SearchBackendContract, ids


@pytest.fixture
def index(tmp_path):
    return EmbeddedIndex.build(tmp_path / "index", PASSAGES)


def crowd(n):
    """``n`` short passages about pairs of entities, with ids whose order is not the input's."""
    return (
        Passage(f"p{(i * 7919) % n:06d}", f"Name{i // 2}", f"Name{i // 2} has word{i % 97} in row {i}.")
        for i in range(n)
    )


class TestContract(SearchBackendContract):
    @pytest.fixture
    def make_backend(self, tmp_path):
        made = []

        def make(passages):
            made.append(EmbeddedIndex.build(tmp_path / f"index-{len(made)}", passages))
            return made[-1]

        return make

    def test_asynchronous_searches_leave_the_event_loop_free(self, backend, monkeypatch):
        """Those of a large index do; a small one answers in less time than another thread takes to wake."""
        large = dataclasses.replace(backend.manifest, passages=1_000_000)
        monkeypatch.setattr(type(backend), "manifest", large)
        super().test_asynchronous_searches_leave_the_event_loop_free(backend, monkeypatch)


def test_scores_are_bm25_of_title_times_boost_and_text(tmp_path):
    passages = [Passage("a", "ant", "bee bee cat"), Passage("b", "bee", "cat dog"), Passage("c", "elk", "elk")]
    index = EmbeddedIndex.build(tmp_path / "index", passages, title_boost=2)
    # contents: a = ant ant bee bee cat (5 terms), b = bee bee cat dog (4), c = elk elk elk (3); mean length 4
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))  # bee and cat are in two of three passages

    def weight(tf, length):
        return idf * tf * 2.2 / (tf + 1.2 * (1 - 0.75 + 0.75 * length / 4))

    found = {hit.passage.id: hit.score for hit in index.search(["bee cat bee"], 3)[0]}
    assert found == pytest.approx({"a": weight(2, 5) + weight(1, 5), "b": weight(2, 4) + weight(1, 4)}, rel=1e-5)


def test_the_english_analyzer_finds_other_forms_of_a_word(tmp_path):
    passages = [Passage("a", "Painter", "He paints rivers."), Passage("b", "Town", "It trades.")]
    standard = EmbeddedIndex.build(tmp_path / "standard", passages)
    english = EmbeddedIndex.build(tmp_path / "english", passages, analyzer="english")
    assert standard.search(["painting a river"], 1) == [[]]
    assert ids(english.search(["painting a river"], 1)[0]) == ["a"]
    assert english.manifest.analyzer == "english"
    assert standard.manifest.digest != english.manifest.digest


def test_only_the_first_terms_of_a_query_count(index):
    words = [f"unknown{i}" for i in range(index.manifest.parameters["max_query_terms"])]
    assert ids(index.search([" ".join([*words[1:], "Tivaro"])], 1)[0]) == ["tivaro-1"]
    assert index.search([" ".join([*words, "Tivaro"])], 1) == [[]]


def folder_of_an_index():
    """A folder that goes afterwards; an open index may write a lock file into it at any time."""
    return tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_passages_come_back_and_any_query_is_answered(data):
    text = st.text(max_size=40)
    contents = data.draw(st.lists(st.tuples(text, text), min_size=1, max_size=8))
    passages = [Passage(f"{i}", title, body) for i, (title, body) in enumerate(contents)]
    queries = [*data.draw(st.lists(st.text(st.characters(), max_size=40), max_size=5)), *(p.text for p in passages)]
    with folder_of_an_index() as folder:
        for hits in EmbeddedIndex.build(Path(folder) / "index", passages).search(queries, 8):
            assert [(-hit.score, hit.passage.id) for hit in hits] == sorted(
                (-hit.score, hit.passage.id) for hit in hits
            )
            assert all(hit.passage in passages for hit in hits)


@settings(max_examples=25, deadline=None)
@given(
    contents=st.lists(st.tuples(*[st.text("aAbBéÉ0 .-<", max_size=12)] * 2), min_size=1, max_size=8),
    queries=st.lists(st.text("aAbBéÉ0 .-<", max_size=12), min_size=1, max_size=8),
)
def test_exactly_the_passages_that_share_a_word_are_found(contents, queries):
    def words(text):
        return set(re.findall(r"\w+", text.lower()))

    passages = [Passage(f"{i}", title, body) for i, (title, body) in enumerate(contents)]
    expected = [sorted(p.id for p in passages if words(query) & words(f"{p.title} {p.text}")) for query in queries]
    with folder_of_an_index() as folder:
        found = EmbeddedIndex.build(Path(folder) / "index", passages).search(queries, 8)
    assert [sorted(ids(hits)) for hits in found] == expected


def test_a_lone_surrogate_in_a_passage_becomes_a_replacement_character(tmp_path):
    index = EmbeddedIndex.build(tmp_path / "index", [Passage("a", "T\ud800", "quartz \udfff")])
    assert index.search(["quartz"], 1)[0][0].passage == Passage("a", "T\ufffd", "quartz \ufffd")


def test_ties_go_by_id_also_across_segments(tmp_path):
    # 32 MB leave the engine a heap of 16 MB, which so many different words fill more than once.
    n = 8_000
    passages = [
        Passage(f"p{(i * 7919) % n:04d}", "", f"tied u{i} " + " ".join(f"v{i}x{j}" for j in range(12)))
        for i in range(n)
    ]
    small = EmbeddedIndex.build(tmp_path / "small", passages, memory_mb=32)
    large = EmbeddedIndex.build(tmp_path / "large", passages)
    assert len(list((tmp_path / "small").glob("*.term"))) > 1 == len(list((tmp_path / "large").glob("*.term")))
    assert small.manifest == large.manifest
    for queries, k in ((["tied"], 5), (["tied u77", "v5x5", "nothing"], 3), (["tied"], n + 1)):
        assert small.search(queries, k) == large.search(queries, k)
    assert ids(small.search(["tied"], 3)[0]) == ["p0000", "p0001", "p0002"]


def test_ties_go_by_id_in_a_segment_that_was_merged_in_another_order(tmp_path):
    """The engine puts the larger of two parts first, whatever its passages are called."""
    passages = [Passage(f"p{i:04d}", "", f"tied u{i}") for i in range(500)]
    manifest = EmbeddedIndex.build(tmp_path / "in-order", passages).manifest
    merged = tmp_path / "merged"
    merged.mkdir()
    writer = files.create_index(merged, Analyzer(manifest.analyzer)).writer(num_threads=1)
    for rank, passage in [*enumerate(passages, 1)][100:] + [*enumerate(passages, 1)][:100]:
        document = tantivy.Document()
        document.add_unsigned(files.RANK, rank)
        document.add_bytes(files.STORED, files.pack(passage))
        document.add_text(files.CONTENT, passage.text)
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
    files.write_manifest(merged, manifest, key=None)
    assert len(list(merged.glob("*.term"))) == 1
    assert ids(EmbeddedIndex.open(merged).search(["tied"], 3)[0]) == ["p0000", "p0001", "p0002"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_searches_while_other_threads_of_the_parent_do(tmp_path):
    index = EmbeddedIndex.build(tmp_path / "index", crowd(2_000))
    expected = index.search(["Name7 word3"], 3)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()

    async def fork_during_searches():
        searches = [asyncio.ensure_future(index.asearch([f"Name{i} word{i % 97}"] * 20, 3)) for i in range(40)]
        await asyncio.sleep(0)
        children = [context.Process(target=lambda: results.put(index.search(["Name7 word3"], 3))) for _ in range(3)]
        for child in children:
            child.start()
        await asyncio.gather(*searches)
        return children

    children = asyncio.run(fork_during_searches())
    assert [results.get() for _ in children] == [expected] * 3
    for child in children:
        child.join(20)
        assert child.exitcode == 0
    assert index.search(["Name7 word3"], 3) == expected


def test_spawned_processes_search_a_pickled_index(index):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        answers = pool.starmap(EmbeddedIndex.search, [(index, [p.text], 1) for p in PASSAGES[:4]])
    assert answers == [index.search([p.text], 1) for p in PASSAGES[:4]]


def test_a_copy_does_not_search_another_index_in_the_same_place(index, tmp_path):
    copy = EmbeddedIndex.__reduce__(index)
    os.rename(tmp_path / "index", tmp_path / "old")
    EmbeddedIndex.build(tmp_path / "index", PASSAGES[:3])
    with pytest.raises(CorpusError, match="replaced"):
        copy[0](*copy[1]).search(["Tivaro"], 1)


def test_an_open_index_outlives_its_directory(index, tmp_path):
    expected = index.search(["Tivaro town"], 2)
    for file in (tmp_path / "index").iterdir():
        file.unlink()
    assert index.search(["Tivaro town"], 2) == expected


@pytest.mark.parametrize(
    "damage", ["missing file", "short file", "no manifest", "bad manifest", "deep manifest", "other format", "garbage"]
)
def test_a_damaged_index_is_one_clear_error(index, tmp_path, damage):
    directory = tmp_path / "index"
    segment = next(directory.glob("*.term"))
    manifest = directory / "manifest.json"
    if damage == "missing file":
        segment.unlink()
    elif damage == "short file":
        segment.write_bytes(segment.read_bytes()[:-1])
    elif damage == "garbage":
        segment.write_bytes(b"x" * segment.stat().st_size)
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "bad manifest":
        manifest.write_bytes(b"{")
    elif damage == "deep manifest":
        manifest.write_bytes(b"[" * 100_000)
    else:
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": "at2po-index/99"}))
    with pytest.raises(CorpusError, match=f"(?s){re.escape(str(directory))}.*build it again"):
        EmbeddedIndex.open(directory)


def test_a_missing_directory_is_one_clear_error(tmp_path):
    with pytest.raises(CorpusError, match=re.escape(str(tmp_path / "nowhere"))):
        search_backend.open(f"embedded:{tmp_path / 'nowhere'}")
    with pytest.raises(CorpusError, match="embedded:DIR"):
        search_backend.open("embedded:")


def test_a_user_who_may_not_write_opens_it(index, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    opened = EmbeddedIndex.open(tmp_path / "index")
    assert opened.search(["Tivaro town"], 2) == index.search(["Tivaro town"], 2)


def test_a_closed_index_stays_closed_in_threads(index):
    index.close()
    with pytest.raises(SearchUnavailable, match="closed"):
        asyncio.run(index.asearch(["Tivaro"], 1))


@pytest.mark.slow
def test_the_answer_to_real_questions_is_among_the_first_five(data_dir, tmp_path):
    seen = set()

    def corpus():
        for file in sorted((data_dir / "corpus").glob("*.jsonl.gz")):
            for passage in read_passages(file):
                if passage.id not in seen:  # the sample's files overlap
                    seen.add(passage.id)
                    yield passage

    index = EmbeddedIndex.build(tmp_path / "index", corpus())
    records = json.loads((data_dir / "hotpotqa" / "hotpot_dev_distractor_v1.json").read_text())
    asked = [(r["question"], r["answer"]) for r in records if r["answer"] not in ("yes", "no")]

    def plain(text):
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", re.sub(r"[^\w\s]", "", text.lower())).split())

    found = index.search([question for question, _ in asked], 5)
    hits = [
        any(plain(a) in plain(f"{h.passage.title} {h.passage.text}") for h in f)
        for (_, a), f in zip(asked, found, strict=True)
    ]
    assert index.manifest.passages == len(seen) > 60_000
    assert sum(hits) / len(hits) >= 0.70
