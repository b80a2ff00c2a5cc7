r"""Read what services answer that follow Search-R1's retrieval server.

``{"result": [[{"document": {"id", "contents": "\"Title\"\ntext"}, "score"}, …], …]}``
(github.com/PeterGriffinJin/Search-R1, search_r1/search/retrieval_server.py), and as they differ:

- A document has ``contents``, or ``title`` and ``text``; of a field that is null the other one counts. It may lack an
  id, and stand without ``document`` around it.
- Where no hit of a query has a score, the order given is the ranking, and the scores are 1, 1/2, 1/3, ….
- Scores that only rise are distances: the order stays, and the scores change their sign. Else higher is better.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from search_backend.base import Hit, Passage
from search_backend.outside import Unusable, finite, read_json, shown


def read_results(answer: bytes, queries: int) -> list[list[Any]]:
    """The entries of each query.

    Raises:
        Unusable: It is no JSON object with a list of entries for each query.
    """
    content = read_json(answer)
    results = content.get("result") if isinstance(content, dict) else None
    if not isinstance(results, list) or not all(isinstance(result, list) for result in results):
        raise Unusable("it has no list of lists as result")
    if len(results) != queries:
        raise Unusable(f"{len(results)} results for {queries} queries")
    return results


def read_hits(entries: Sequence[Any]) -> list[Hit]:
    """The hits of one query, best first, ties by passage id.

    Raises:
        Unusable: An entry has no text, or a score that is no number; or only some have scores.
    """
    passages = [_passage(entry) for entry in entries]
    given = [entry.get("score") for entry in entries]
    if all(score is None for score in given):
        return [Hit(passage, 1 / rank) for rank, passage in enumerate(passages, 1)]
    scores = [finite(score, "the score") for score in given]
    if scores == sorted(scores) and scores[0] < scores[-1]:
        scores = [-score for score in scores]
    hits = [Hit(passage, score) for passage, score in zip(passages, scores, strict=True)]
    return sorted(hits, key=lambda hit: (-hit.score, hit.passage.id))


def _passage(entry: object) -> Passage:
    document = entry.get("document", entry) if isinstance(entry, dict) else None
    if not isinstance(document, dict):
        raise Unusable(f"no document: {shown(entry)}")
    title, text, contents = (_text(document, field) for field in ("title", "text", "contents"))
    heading, _, body = contents.partition("\n")
    if len(heading) > 1 and heading.startswith('"') and heading.endswith('"'):
        heading = heading[1:-1]
    elif not body:
        heading, body = "", heading
    title, text = title or heading, text or body
    if not text.strip():
        raise Unusable(f"a hit without text (its id: {shown(document.get('id'))})")
    for field in ("id", "_id"):
        identifier = document.get(field)
        if isinstance(identifier, str | int) and not isinstance(identifier, bool) and identifier != "":
            return Passage(str(identifier), title, text)
        if identifier not in (None, ""):
            raise Unusable(f"the {field} {shown(identifier)} is neither text nor an integer")
    return Passage(hashlib.sha256(f"{title}\n{text}".encode()).hexdigest()[:16], title, text)


def _text(document: Mapping[str, Any], field: str) -> str:
    """A field's text; empty where it is missing or null."""
    value = document.get(field)
    if value is not None and not isinstance(value, str):
        raise Unusable(f"the {field} {shown(value)} is no text")
    return value or ""
