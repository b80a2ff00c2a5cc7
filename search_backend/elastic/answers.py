"""Read the answers of Elasticsearch: whole ones only, and only hits of the shape that our indexes have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_backend.base import BadAnswer, Passage, SearchUnavailable


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
    except (ValueError, KeyError, TypeError, IndexError, ArithmeticError) as error:
        raise BadAnswer(f"{who}: not an answer of Elasticsearch to a search ({error!r})") from error


def _partial(item: Mapping[str, Any], shards: Mapping[str, Any]) -> str:
    """Why an answer is partial; empty if it is whole."""
    if item["timed_out"] is not False:
        return "the search ran out of time on the server (timed_out)"
    if item.get("terminated_early", False) is not False:
        return "the search was ended before its end (terminated_early)"
    if shards["failed"] != 0 or isinstance(shards["failed"], bool):
        return f"{shards['failed']} of {shards.get('total', '?')} shards failed"
    return ""


def _hit(hit: Mapping[str, Any]) -> RankedHit:
    source, score, place = hit["_source"], hit["_score"], hit["sort"][1]
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise ValueError(f"the score {score!r} is no finite number")
    if isinstance(place, bool) or not isinstance(place, int) or place < 1:
        raise ValueError(f"the place {place!r} is no positive integer")
    fields = [source[field] for field in ("id", "title", "text")]
    for field in fields:
        if not isinstance(field, str):
            raise ValueError(f"{field!r} is no string")
        field.encode()  # UnicodeEncodeError, a ValueError, where half a surrogate pair is in it
    return RankedHit(Passage(*fields), float(score), place)
