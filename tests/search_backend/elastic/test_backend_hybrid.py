"""Words and vectors together on a real server, with a real model."""

import asyncio
import pickle
from urllib.parse import quote

import pytest
from elasticsearch import Elasticsearch

import search_backend
from search_backend import CorpusError, Passage, SearchUnavailable
from search_backend.elastic.load import load_index
from tests.helpers.search_contract import ids

pytestmark = pytest.mark.service

PASSAGES = [
    Passage("cardio", "Mira Holt", "The physician spent four decades treating cardiac disease in children."),
    Passage(
        "engine", "Broken engines", "Who repaired the heart of the machine? A doctor of engineering did, for a fee."
    ),
    Passage("doctor", "Doctor Who", "A series about a traveller. Doctor Who has two hearts and helped many."),
    Passage("bridge", "Ossel bridge", "The bridge over the Ossel was opened in 1907 and has six arches."),
    Passage("bread", "Rye bread", "Rye flour, water and salt are mixed and baked for an hour."),
    *(Passage(f"town-{i}", f"Town {i}", f"Town {i} lies on a river and has {i} churches.") for i in range(30)),
]
PARAPHRASE = "Which medic looked after youngsters with heart problems?"  # shares no word with what it asks for


@pytest.fixture(scope="module")
def uri(elasticsearch_host, minilm):
    uri = f"elasticsearch://{elasticsearch_host}/test-hybrid?hybrid={quote(minilm, safe='')}"
    load_index(uri, PASSAGES).close()
    return uri


@pytest.fixture
def backend(uri):
    with_vectors = search_backend.open(uri)
    yield with_vectors
    with_vectors.close()


def test_it_finds_a_paraphrase_that_words_miss(uri, backend):
    words = search_backend.open(uri.split("?")[0])
    assert "cardio" not in ids(words.search([PARAPHRASE], len(PASSAGES))[0])
    assert "cardio" in ids(backend.search([PARAPHRASE], 2)[0])
    exact = "Ossel bridge 1907"
    assert ids(backend.search([exact], 1)[0]) == ids(words.search([exact], 1)[0]) == ["bridge"]
    words.close()


def test_scores_are_those_of_reciprocal_rank_fusion(backend):
    hits = backend.search(["Ossel bridge 1907"], 3)[0]
    assert hits[0].score == pytest.approx(2 / 61)  # first in both lists
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert asyncio.run(backend.asearch(["Ossel bridge 1907"], 3)) == [hits]
    assert backend.search(["", "Ossel bridge 1907", "?!"], 3) == [[], hits, []]


def test_the_first_hits_do_not_depend_on_how_many_are_asked_for(backend):
    queries = [PARAPHRASE, "Town 7 river", "bread"]
    ten = backend.search(queries, 10)
    assert [hits[:3] for hits in ten] == backend.search(queries, 3)
    assert backend.search(queries[::-1], 10) == ten[::-1]


def test_the_manifest_names_model_index_candidates_and_constant(uri, backend, minilm):
    parameters = backend.manifest.parameters
    assert parameters["embedder"] == {
        "model": "model",
        "digest": parameters["embedder"]["digest"],
        "dimension": 384,
        "normalized": True,
        "index": "int8_hnsw",
    }
    assert parameters["hybrid"] == {"candidates": 200, "rrf": 60, "window": 100}
    other = search_backend.open(f"{uri}&rrf=10&candidates=300")
    assert other.manifest.parameters["hybrid"] == {"candidates": 300, "rrf": 10, "window": 100}
    assert other.manifest.digest != backend.manifest.digest
    other.close()
    copy = pickle.loads(pickle.dumps(backend))
    assert copy.manifest == backend.manifest
    assert copy.search([PARAPHRASE], 3) == backend.search([PARAPHRASE], 3)
    copy.close()


def test_several_shards_rank_as_one_does(elasticsearch_host, minilm, name, backend):
    uri = f"elasticsearch://{elasticsearch_host}/{name}?hybrid={quote(minilm, safe='')}"
    sharded = load_index(uri, PASSAGES, shards=3)
    for query in (PARAPHRASE, "Ossel bridge 1907"):
        assert ids(sharded.search([query], 3)[0]) == ids(backend.search([query], 3)[0])
    sharded.close()


def test_an_index_without_these_vectors_is_one_clear_error(elasticsearch_host, minilm, name):
    plain = f"elasticsearch://{elasticsearch_host}/{name}"
    hybrid = f"{plain}?hybrid={quote(minilm, safe='')}"
    load_index(plain, PASSAGES).close()
    with pytest.raises(CorpusError, match=r"has no vectors, and hybrid=.*index build"):
        search_backend.open(hybrid)
    backend = load_index(hybrid, PASSAGES)
    with Elasticsearch(f"http://{elasticsearch_host}") as client:
        meta = client.indices.get(index=backend.index)[backend.index]["mappings"]["_meta"]
        meta["at2po"]["manifest"]["parameters"]["embedder"]["digest"] = "0" * 64
        client.indices.put_mapping(index=backend.index, meta=meta)
    backend.close()
    with pytest.raises(CorpusError, match=r"has vectors of model \(000000000000\)"):
        search_backend.open(hybrid)


def test_a_backend_that_is_closed_while_it_embeds_answers_nothing_more(uri):
    backend = search_backend.open(uri)

    async def ask_and_close() -> None:
        asked = asyncio.ensure_future(backend.asearch([f"{PARAPHRASE} {i}" for i in range(200)], 3))
        await asyncio.sleep(0)
        await asyncio.to_thread(backend.close)
        with pytest.raises(SearchUnavailable, match="was closed"):
            await asked

    asyncio.run(ask_and_close())
