from __future__ import annotations

import pytest

import search_backend
from search_backend import CorpusError, Manifest, Passage
from search_backend.analysis import Analyzer
from search_backend.elastic.address import parse_address
from search_backend.elastic.layout import document, mappings, read
from search_backend.elastic.load import load_index
from tests.helpers.search_contract import PASSAGES

MANIFEST = Manifest("elasticsearch", "digest", 3, "standard", {"shards": 1, "k1": 1.2, "b": 0.75})


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
