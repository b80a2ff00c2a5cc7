"""An evaluation as the data of its page: the list at once, every transcript in the chunk that holds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from at2po_agent.judge.episodes.records import FILTERS, EpisodeRecord, TurnRecord, verdict
from at2po_agent.judge.measured import Measured
from at2po_agent.judge.results.metrics import SEARCH, Summary
from at2po_agent.judge.view.page import Heading
from at2po_agent.judge.view.passages import shown_passages
from at2po_env.tasks import Metric

CHUNK = 40  # episodes; what opening one of them unpacks


def evaluation_head(
    heading: Heading,
    summary: Summary,
    episodes: Sequence[EpisodeRecord],
    tree: Mapping[str, Any] | None = None,
    chains: int | None = None,
    measured: Measured = SEARCH,
) -> dict[str, Any]:
    """The top of the page, above the list of episodes.

    Args:
        heading: of the page.
        summary: of these episodes.
        episodes: in the order of the list.
        tree: what an evaluation with trees found, as ``tree.json`` has it.
        chains: that each of its trees began with, which the summary is over; None without trees.
        measured: what the episodes are measured by.
    """
    return {
        "kind": "evaluation",
        **heading.to_json(),
        "summary": summary.to_json(),
        "samples": max((episode.sample + 1 for episode in episodes), default=1),
        "tree": tree,
        "chains": chains,
        "first": _described(measured.first),
        "own": [_described(metric) for metric in measured.own],
        "task": measured.task_word,
        "filters": list(FILTERS),
        "episodes": [_row(number, episode) for number, episode in enumerate(episodes)],
    }


def _described(metric: Metric) -> dict[str, Any]:
    """A metric as the page heads it."""
    words = metric.heading.replace("_", " ")
    return {"name": metric.name, "title": str(metric), "words": words[0].upper() + words[1:], "share": metric.share}


def episode_chunks(episodes: Sequence[EpisodeRecord]) -> Iterator[list[dict[str, Any]]]:
    """The transcripts, ``CHUNK`` at a time."""
    for start in range(0, len(episodes), CHUNK):
        yield [_transcript(episode) for episode in episodes[start : start + CHUNK]]


def _row(number: int, episode: EpisodeRecord) -> dict[str, Any]:
    return {
        "chunk": number // CHUNK,
        "at": number % CHUNK,
        "id": episode.question_id,
        "sample": episode.sample,
        "question": episode.question,
        "gold": episode.answers[0] if episode.answers else "",
        "prediction": episode.prediction,
        "error": episode.error,
        "ended": episode.ended,
        "em": episode.em,
        "f1": episode.f1,
        "score": episode.score,
        "metrics": dict(episode.metrics),
        "turns": len(episode.turns),
        "tokens": episode.completion_tokens,
        "verdict": verdict(episode),
        "filters": [name for name, fits in FILTERS.items() if fits(episode)],
    }


def _transcript(episode: EpisodeRecord) -> dict[str, Any]:
    gold = set(episode.gold_titles)
    return {
        "answers": list(episode.answers),
        "gold_titles": list(episode.gold_titles),
        "recall": episode.recall,
        "prompt": episode.prompt,
        "turns": [_turn(turn, gold) for turn in episode.turns],
    }


def _turn(turn: TurnRecord, gold: set[str]) -> dict[str, Any]:
    hits: list[Mapping[str, Any]] = [
        {"title": hit.title, "score": hit.score, "body": hit.body, "gold": hit.title in gold}
        for hit in shown_passages(turn.observation, turn.hits)
    ]
    return {
        "kind": turn.action.get("kind", ""),
        "why": turn.action.get("why"),
        "text": turn.text,
        "reasoning": turn.reasoning,
        "observation": turn.observation,
        "hits": hits,
        "completion_tokens": turn.completion_tokens,
        "seconds": turn.seconds,
        "finish": turn.finish,
    }
