"""Episodes as chat-format JSON lines for supervised fine-tuning: what a model is to learn, and what it only reads.

One line per episode: ``messages`` (and ``tools``, where actions were tool calls) as the endpoint saw them, and
``metadata`` that says which episode it is. What carries loss is said in the fields that trainers read:

- ``weight`` on every assistant message, 1 or 0 (OpenAI's fine-tuning; Axolotl: ``message_field_training: weight``).
  A turn without a usable action has 0. TRL trains on assistant messages with ``assistant_only_loss=True`` and takes all
  of them; messages of user and tool never carry loss.
- ``reasoning_content`` on an assistant message is what a reasoning model thought apart from it, where the chat
  templates of such models look for it.
- ``train_detail`` where turns and results are one assistant message, as local policies play: spans of its content,
  ``begin_offset`` and ``end_offset`` both inside it (Axolotl: ``message_field_training_detail: train_detail``). TRL and
  OpenAI have nothing like it: for them evaluate in the dialect ``chat``.

Arguments of tool calls stay the JSON text that they are on the wire: as objects, tables that give every row the same
fields would mix the arguments of different tools (Axolotl's documentation of its dataset formats).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from at2po_agent.atomic_files import write_text
from at2po_agent.judge.episodes.records import FILTERS, EpisodeRecord, TurnRecord
from at2po_agent.judge.results.stored import Finished
from at2po_agent.training.run_dir import RunDirError
from at2po_env.dialects import DIALECTS


def export_traces(run: Finished, out: Path, only: str | None = None) -> int:
    """Write the episodes of a run that pass the filter ``only``; returns how many.

    Episodes that infrastructure ended are left out unless they are what is asked for.

    Raises:
        RunDirError: no episode passes.
        DiskError: the file cannot be written; nothing is left of it.
    """
    episodes = chosen(run, only)
    write_text(out, "".join(json.dumps(trace(run, episode), ensure_ascii=False) + "\n" for episode in episodes))
    return len(episodes)


def chosen(run: Finished, only: str | None = None) -> list[EpisodeRecord]:
    """The episodes of a run with a turn that pass the filter ``only``; the scored ones without a filter.

    Raises:
        RunDirError: there is none.
    """
    episodes = [episode for episode in run.episodes if episode.turns and _fits(episode, only)]
    if not episodes:
        raise RunDirError(f"{run.path} has no {only or 'scored'} episode to export")
    return episodes


def trace(run: Finished, episode: EpisodeRecord) -> dict[str, Any]:
    """One episode of a run as a line of the file."""
    tools = _tools(run.manifest)
    return {
        "messages": _chat(episode) if episode.messages else _inline(episode),
        **({"tools": tools} if tools else {}),
        "metadata": _metadata(run, episode),
    }


def _tools(manifest: Mapping[str, Any]) -> list[Any]:
    """The tools that the model was told of beside the prompt: in a dialect of native calls."""
    spoken = manifest.get("dialect", {})
    # A dialect of the user's own is not known by its name: its tools are stored.
    if "tools" in spoken:
        return list(spoken["tools"])
    known = DIALECTS.get(str(spoken.get("name")))
    return list(manifest.get("tools", known.tools)) if known and known.tools else []


def _fits(episode: EpisodeRecord, only: str | None) -> bool:
    return FILTERS[only](episode) if only else episode.error is None


def _metadata(run: Finished, episode: EpisodeRecord) -> dict[str, Any]:
    search = {"em": episode.em, "f1": episode.f1, "ended": episode.ended, "searches": episode.searches}
    return {
        "question_id": episode.question_id,
        "sample": episode.sample,
        "question": episode.question,
        "answers": list(episode.answers),
        "prediction": episode.prediction,
        **({"metrics": dict(episode.metrics), "ended": episode.ended} if episode.metrics else search),
        "env": run.manifest.get("env"),
        "split": run.split,
        "model": run.model,
        "dialect": run.manifest.get("dialect", {}).get("name"),
    }


def _chat(episode: EpisodeRecord) -> list[dict[str, Any]]:
    """The conversation as it was sent, without messages that nobody answered."""
    messages = [dict(message) for message in episode.messages]
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()
    said = [message for message in messages if message["role"] == "assistant"]
    for message, turn in zip(said, episode.turns, strict=False):  # a turn that was not sent back has no message
        message["weight"] = _weight(turn)
        if turn.reasoning:
            message["reasoning_content"] = turn.reasoning
    return messages


def _inline(episode: EpisodeRecord) -> list[dict[str, Any]]:
    """Prompt and one assistant message with every turn and result in it, which is what the policy read and wrote."""
    content, spans = "", []
    for turn in episode.turns:
        for text, train in ((turn.text, bool(_weight(turn))), (turn.observation, False)):
            if text:
                spans.append({"begin_offset": len(content), "end_offset": len(content + text) - 1, "train": train})
                content += text
    said: Mapping[str, Any] = {"role": "assistant", "content": content, "weight": 1, "train_detail": spans}
    return [{"role": "user", "content": episode.prompt}, dict(said)]


def _weight(turn: TurnRecord) -> int:
    return int(turn.action.get("kind") != "malformed")
