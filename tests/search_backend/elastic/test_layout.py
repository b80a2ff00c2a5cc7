from __future__ import annotations

import json
from dataclasses import replace

import pytest
from elasticsearch import Elasticsearch

import search_backend
from search_backend import BadAnswer, CorpusError, Manifest, Passage, SearchError
from search_backend.analysis import Analyzer
from search_backend.elastic.address import parse_address
from search_backend.elastic.history import loaded
from search_backend.elastic.layout import document, mappings, passages, read
from search_backend.elastic.load import load_index
from tests.helpers.hostile_json import with_each_part_replaced
from tests.helpers.search_contract import PASSAGES

MANIFEST = Manifest(
    "elasticsearch", "digest", 3, "standard", {"max_query_terms": 128, "shards": 1, "k1": 1.2, "b": 0.75}
)


def test_a_document_has_the_terms_of_its_title_as_often_as_it_counts_and_those_of_its_text():
    made = document(Passage("p7", "Ossel Bridge", "It isn't old."), 7, Analyzer("standard"), 2)
    assert made == {
        "id": "p7",
        "title": "Ossel Bridge",
        "text": "It isn't old.",
        "rank": 7,
        "content": "ossel bridge ossel bridge it isn t old",
    }


@pytest.mark.parametrize("complete", [True, False])
def test_the_manifest_that_was_written_is_read(complete):
    found = read("wiki-1", {"mappings": mappings(MANIFEST, complete=complete)}, parse_address("elasticsearch://h/wiki"))
    assert (found.name, found.manifest, found.complete) == ("wiki-1", MANIFEST, complete)


def test_vectors_are_mapped_where_passages_have_them():
    embedder = {"model": "m", "dimension": 3, "index": "int8_hnsw"}
    made = mappings(Manifest("elasticsearch", "d", 3, "standard", {"embedder": embedder}), complete=True)
    assert made["properties"]["vector"]["dims"] == 3
    assert made["_source"] == {"excludes": ["vector"]}
    assert "vector" not in mappings(MANIFEST, complete=True)["properties"]


@pytest.mark.service
def test_an_index_that_is_missing_unfinished_or_not_ours_is_one_clear_error(uri, name, client):
    with pytest.raises(CorpusError, match="there is no such index; build it"):
        search_backend.open(uri)
    client.indices.create(index=name)
    with pytest.raises(CorpusError, match=r"not made by at2po.*index build"):
        search_backend.open(uri)
    with pytest.raises(CorpusError, match="an index of this very name is there"):
        load_index(uri, PASSAGES)
    client.indices.delete(index=name)
    backend = load_index(uri, PASSAGES)
    client.indices.put_mapping(index=backend.index, meta={"at2po": {"format": "at2po-elastic/99"}})
    with pytest.raises(CorpusError, match="at2po-elastic/99"):
        search_backend.open(uri)
    client.indices.delete(index=backend.index)
    with pytest.raises(CorpusError, match="HTTP 404: no such index"):
        backend.search(["Tivaro"], 1)
    backend.close()


@pytest.mark.service
def test_an_index_made_with_another_mapping_is_refused(uri, name, client):
    backend = load_index(uri, PASSAGES)
    made = client.indices.get(index=backend.index)[backend.index]["mappings"]
    made["properties"]["content"] = {"type": "text"}
    client.indices.delete(index=backend.index)
    client.indices.create(index=name, mappings=made)
    with pytest.raises(CorpusError, match=r"mapping of .* was changed"):
        search_backend.open(uri)
    backend.close()


@pytest.mark.fault("item 23: what Elasticsearch says of an index, of which one part is something else")
def test_whatever_a_part_of_the_description_is_the_manifest_is_sound_or_there_is_an_error_of_ours():
    embedder = {"model": "m", "digest": "d", "dimension": 3, "index": "int8_hnsw"}
    whole = {
        "mappings": mappings(replace(MANIFEST, parameters=MANIFEST.parameters | {"embedder": embedder}), complete=True)
    }
    for made in with_each_part_replaced(json.loads(json.dumps(whole))):
        try:
            found = read("wiki-1", made, parse_address("elasticsearch://h/wiki"))
        except SearchError:
            continue
        json.dumps(found.manifest.to_json(), ensure_ascii=False, allow_nan=False).encode()
        assert int(found.manifest.parameters["max_query_terms"]) >= 0 and found.manifest.parameters["shards"] >= 0
        assert found.manifest.passages >= 0 and type(found.complete) is bool


@pytest.mark.fault("item 23: what Elasticsearch says of an index, of which one part is something else")
@pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b"7", b'{"wiki-1": 7}', b'{"wiki-1": {}, "wiki-2": {}}'])
def test_whatever_a_server_says_there_is_is_an_error_of_ours(elastic_double, body):
    elastic_double.body = body
    with pytest.raises(SearchError):
        search_backend.open(elastic_double.uri)
    with pytest.raises(SearchError):
        load_index(elastic_double.uri, PASSAGES)


@pytest.mark.parametrize("counted", [{}, [], {"count": "3"}, {"count": -1}, {"count": True}, {"count": 1e400}])
def test_a_number_of_passages_that_is_none_is_a_bad_answer(elastic_double, counted):
    elastic_double.body = json.dumps(counted).encode()
    address = parse_address(elastic_double.uri)
    with Elasticsearch(**address.client_options()) as client, pytest.raises(BadAnswer):
        passages(client, address, "wiki-1")


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"x"'])
def test_loads_that_a_server_lists_in_another_shape_are_an_error_of_ours(elastic_double, body):
    elastic_double.body = body
    with pytest.raises(SearchError):
        loaded(elastic_double.uri)
