"""Run directories of evaluations for tests: what ``at2po-agent eval`` leaves, written from records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from at2po_agent.judge.episodes.records import EPISODES, EpisodeRecord, TurnRecord
from at2po_env.dialects import CHAT
from at2po_env.state import plain
from search_backend.base import Hit, Passage

HITS = (("Somon", "Somon was born in Walem."), ("Walem", "Walem is a town."))

MANIFEST: Mapping[str, Any] = {
    "env": "AT2PO-HotpotQA-v0",
    "model": {"name": "tiny", "base_url": "http://127.0.0.1:1/v1"},
    "dataset": {"name": "hotpotqa", "split": "dev", "questions": 5, "digest": "d" * 64},
    "search": {"backend": "embedded", "digest": "c" * 64},
    "dialect": {"name": "chat", "digest": "a" * 64},
    "questions": ["q1", "q2"],
    "samples": 1,
    "action_format": "tags",
    "sampling": {"temperature": 0.0, "seed": 0, "request": {}},
    "limits": {"k": 3, "max_searches": 6},
    "metrics": "hotpotqa-squad/1",
    "price": {"prompt": None, "completion": None},
    "code": {"packages": {"at2po": "0.1.0"}},
}


def search_turn(query: str = "Somon born", passages: Iterable[tuple[str, str]] = HITS) -> TurnRecord:
    """A search as the environment answers it in the dialect of endpoints."""
    hits = [Hit(Passage(str(n), title, text), 9.5 - n) for n, (title, text) in enumerate(passages)]
    return TurnRecord(
        text=f"<think>Where?</think><search>{query}</search>",
        action={"kind": "search", "content": query, "why": None},
        observation=plain(CHAT.result(hits, 6000)),
        hits=tuple({"id": h.passage.id, "title": h.passage.title, "score": h.score} for h in hits),
        prompt_tokens=100,
        completion_tokens=20,
        seconds=0.5,
    )


def answer_turn(answer: str) -> TurnRecord:
    """The answer that ends an episode."""
    action = {"kind": "answer", "content": answer, "why": None}
    return TurnRecord(f"<answer>{answer}</answer>", action, "", prompt_tokens=150, completion_tokens=5, seconds=0.2)


def answered(
    id: str, prediction: str = "Walem", gold: str = "Walem", question: str = "Where was Somon born?", **more: Any
) -> EpisodeRecord:
    """An episode that searched once and answered."""
    em = float(prediction == gold)
    turns = (search_turn(), answer_turn(prediction))
    made: dict[str, Any] = {
        "em": em,
        "f1": em,
        "contains": em,
        "gold_titles": ("Somon",),
        "recall": 1.0,
        "searches": 1,
        "prompt": f"Answer the question below.\nQuestion: {question}",
        "turns": turns,
        "sample": 0,
        "messages": _messages(question, turns),
    }
    return EpisodeRecord(
        question_id=id, question=question, answers=(gold,), ended="answer", prediction=prediction, **made | more
    )


def malformed(id: str) -> EpisodeRecord:
    """An episode whose only turn had no action."""
    action = {"kind": "malformed", "content": None, "why": "no complete <search> or <answer>"}
    turns = (TurnRecord("I do not know.", action, ""),)
    return EpisodeRecord(
        id, 0, "Who?", ("Walem",), "malformed", em=0.0, f1=0.0, contains=0.0, prompt="Answer.", turns=turns
    )


def failed(id: str) -> EpisodeRecord:
    """An episode that infrastructure ended."""
    return EpisodeRecord(id, 0, "Who?", ("Walem",), "error", error="HTTP 503 after 8 tries", turns=(search_turn(),))


def write_run(path: Path, episodes: Iterable[EpisodeRecord], **changes: Any) -> Path:
    """A run directory; ``changes`` are laid over the manifest, sections entry by entry."""
    manifest: dict[str, Any] = json.loads(json.dumps(MANIFEST))
    for name, value in changes.items():
        manifest[name] = manifest.get(name, {}) | value if isinstance(value, dict) else value
    path.mkdir(parents=True)
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / EPISODES).write_text("".join(episode.to_line() for episode in episodes), encoding="utf-8")
    return path


def _messages(question: str, turns: Iterable[TurnRecord]) -> tuple[Mapping[str, Any], ...]:
    said = [{"role": "user", "content": f"Answer the question below.\nQuestion: {question}"}]
    for turn in turns:
        said.append({"role": "assistant", "content": turn.text})
        if turn.observation:
            said.append({"role": "user", "content": turn.observation})
    return tuple(said)
