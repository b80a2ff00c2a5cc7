"""Read the answers of Elasticsearch: whole ones only, and only hits of the shape that our indexes have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_backend.base import BadAnswer, Passage, SearchUnavailable
from search_backend.elastic import layout
from search_backend.outside import Unusable, count, finite, shown, well_formed


@dataclass(frozen=True, slots=True)
class RankedHit:
    """A passage that a search found, its score, and its place among all ids, from 1."""

    passage: Passage
    score: float
    place: int


def read_hits(item: Mapping[str, Any], size: int, who: str) -> list[RankedHit]:
    """The hits of one search, best first.

    We ask for no partial results. Older servers, forks and proxies may send them anyway, and a search of fewer shards
    or of less time finds other passages.

    Args:
        item: The answer to one search, which is no error.
        size: Hits that were asked for.
        who: Names the index in errors.

    Raises:
        SearchUnavailable: The answer is partial.
        BadAnswer: It is none of Elasticsearch, or a hit lacks what our indexes hold.
    """
    try:
        shards = item["_shards"]
        if partial := _partial(item, shards):
            raise SearchUnavailable(f"{who}: a partial answer: {partial}")
        hits = item["hits"]["hits"]
        if not isinstance(hits, list) or len(hits) > size:
            raise ValueError(f"no list of at most {size} hits")
        return [_hit(hit) for hit in hits]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise BadAnswer(f"{who}: not an answer of Elasticsearch to a search ({error!r})") from error


def _partial(item: Mapping[str, Any], shards: Mapping[str, Any]) -> str:
    """Why an answer is partial; empty if it is whole."""
    if item["timed_out"] is not False:
        return "the search ran out of time on the server (timed_out)"
    if item.get("terminated_early", False) is not False:
        return "the search was ended before its end (terminated_early)"
    failed = count(shards["failed"], "the number of shards that failed")
    return f"{failed} of {shown(shards.get('total'))} shards failed" if failed else ""


def _hit(hit: Mapping[str, Any]) -> RankedHit:
    source, score, place = hit["_source"], hit["_score"], hit["sort"][1]
    fields = [source[field] for field in layout.SOURCE]
    for field in fields:
        if not isinstance(field, str):
            raise Unusable(f"{shown(field)} in place of a text")
    passage = Passage(*map(well_formed, fields))
    return RankedHit(passage, finite(score, "the score"), count(place, "the place"))
