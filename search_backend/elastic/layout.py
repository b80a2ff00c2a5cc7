"""The layout of an Elasticsearch index: mapping, settings, and the manifest in the mapping's ``_meta``.

The terms of a passage are made here, by the analyzer that the embedded index has too (``search_backend.analysis``), and
sent as the words of ``content``, which the server only splits at spaces. So both backends match the same terms,
whatever the server's analyzers do: Lucene's ``standard`` keeps ``don't`` and ``3.5`` whole, and its ``english`` is
another stemmer. Elasticsearch keeps BM25's factor ``k1 + 1``, as tantivy does, so scores agree too, but for the order
in which 32-bit numbers are summed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elasticsearch import Elasticsearch, NotFoundError

from search_backend.analysis import Analyzer
from search_backend.base import BadAnswer, CorpusError, Manifest, Passage
from search_backend.elastic.address import Address
from search_backend.elastic.failures import attempt, part
from search_backend.outside import Unusable, count, shown

FORMAT = "at2po-elastic/1"
CONTENT, RANK, VECTOR = "content", "rank", "vector"
SOURCE = ["id", "title", "text"]
VECTOR_INDEX = "int8_hnsw"  # said, as the server's default depends on its version
MAX_HITS = 10_000
"""Most hits of a query (Elasticsearch's ``index.max_result_window``)."""

_STORED: dict[str, Any] = {"type": "text", "index": False, "norms": False}
PROPERTIES: dict[str, dict[str, Any]] = {
    "id": {"type": "keyword", "index": False, "doc_values": False},
    RANK: {"type": "integer", "index": False},  # place of the id among all ids: breaks ties, and numbers the documents
    "title": _STORED,
    "text": _STORED,
    CONTENT: {"type": "text", "analyzer": "whitespace", "index_options": "freqs"},
}


def mappings(manifest: Manifest, *, complete: bool) -> dict[str, Any]:
    """The mapping of an index, with its manifest."""
    made = {"dynamic": "strict", "properties": PROPERTIES, "_meta": meta(manifest, complete=complete)}
    if embedder := manifest.parameters.get("embedder"):
        vector = {
            "type": "dense_vector",
            "dims": embedder["dimension"],
            "similarity": "dot_product",
            "index_options": {"type": embedder["index"]},
        }
        # The vectors are searched and never read back.
        made |= {"properties": PROPERTIES | {VECTOR: vector}, "_source": {"excludes": [VECTOR]}}
    return made


def meta(manifest: Manifest, *, complete: bool) -> dict[str, Any]:
    """The mapping's ``_meta``; ``complete`` once every passage is there."""
    return {"at2po": {"format": FORMAT, "complete": complete, "manifest": manifest.to_json()}}


def settings(manifest: Manifest, *, replicas: int) -> dict[str, Any]:
    """Index settings; nothing is refreshed or copied while it is loaded."""
    similarity = {"type": "BM25", "k1": manifest.parameters["k1"], "b": manifest.parameters["b"]}
    return {
        "number_of_shards": manifest.parameters["shards"],
        "number_of_replicas": replicas,
        "refresh_interval": "-1",
        "max_result_window": MAX_HITS,
        "similarity": {"default": similarity},
    }


def document(passage: Passage, rank: int, analyzer: Analyzer, title_boost: int) -> dict[str, Any]:
    """One passage as Elasticsearch holds it."""
    terms = analyzer.terms(passage.title) * title_boost + analyzer.terms(passage.text)
    source = {"id": passage.id, "title": passage.title, "text": passage.text}
    return {RANK: rank, **source, CONTENT: " ".join(terms)}


@dataclass(frozen=True)
class Found:
    """An index of ours on a server: its own name, what it holds, and whether all of it is there."""

    name: str
    manifest: Manifest
    complete: bool


def find(client: Elasticsearch, address: Address) -> Found | None:
    """The index that the name in the address stands for; None where there is no such name.

    Raises:
        CorpusError: It is not an index of ours, or several.
        SearchError: The server cannot be asked.
    """
    try:
        found = attempt(address, lambda: client.indices.get(index=address.index)).body
    except CorpusError as error:
        if isinstance(error.__cause__, NotFoundError):
            return None
        raise
    if not isinstance(found, dict):
        raise BadAnswer(f"{address}: not an answer of Elasticsearch to what an index is: {shown(found)}")
    if len(found) != 1:
        raise CorpusError(
            f"{address} stands for several indexes ({', '.join(sorted(found))}), only one can be searched"
        )
    ((name, description),) = found.items()
    return read(name, description, address)


def passages(client: Elasticsearch, address: Address, name: str) -> int:
    """The number of passages in an index.

    Raises:
        BadAnswer: The server does not say it.
        SearchError: It cannot be asked.
    """
    held = part(address, attempt(address, lambda: client.count(index=name)), "count")
    try:
        return count(held, "the number of passages")
    except Unusable as error:
        raise BadAnswer(f"{address}: not an answer of Elasticsearch to how much {name} holds: {error}") from error


def read(name: str, description: Mapping[str, Any], address: Address) -> Found:
    """Read the manifest in the description of an index (an item of ``GET /INDEX``).

    Raises:
        CorpusError: It is not an index of ours, or its mapping is not the one that this version searches.
    """
    mapping = _inner(description, "mappings")
    content = _inner(mapping, "_meta", "at2po")
    if not isinstance(content, Mapping):
        raise CorpusError(
            f"{address}: the index {name} was not made by at2po (its mapping has no _meta.at2po); "
            "load the passages into one with: at2po-agent index build"
        )
    if content.get("format") != FORMAT:
        raise CorpusError(
            f"{address}: the index {name} has format {content.get('format')!r}, this version reads {FORMAT!r}; "
            "load the passages again with: at2po-agent index build"
        )
    actual = _inner(mapping, "properties", CONTENT)
    if any(_inner(actual, key) != value for key, value in PROPERTIES[CONTENT].items()):
        raise CorpusError(
            f"{address}: the mapping of {name} was changed: {CONTENT} is {actual}, not {PROPERTIES[CONTENT]}; "
            "load the passages again with: at2po-agent index build"
        )
    try:
        manifest = Manifest.from_json(content.get("manifest"), counts=("max_query_terms", "shards"))
        embedder = manifest.parameters.get("embedder", {"model": "", "digest": ""})
        if not all(isinstance(_inner(embedder, key), str) for key in ("model", "digest")):
            raise Unusable(f"an embedder that is none: {shown(embedder)}")
    except Unusable as error:
        raise CorpusError(f"{address}: the manifest of {name} cannot be read ({error}); load it again") from error
    return Found(name, manifest, content.get("complete") is True)


def _inner(value: object, *keys: str) -> Any:
    """A part of what a server describes; None where it is not there."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
