"""Our evaluations as logs of Inspect, written by its own API, for its viewer and its analyses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalMetric,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    EvalStats,
    write_eval_log,
)
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageTool,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.scorer import Score
from inspect_ai.tool import ToolCall

from at2po_agent.atomic_files import writing
from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.judge.results.stored import Finished
from at2po_agent.judge.results.traces import chosen, trace

SCORER = "outcome"
_CREATED = "%Y-%m-%dT%H:%M:%S%z"


def export_inspect(run: Finished, out: Path, only: str | None = None) -> int:
    """Write the episodes of a run that pass the filter ``only`` as one log; returns how many.

    Raises:
        RunDirError: no episode passes.
        DiskError: the file cannot be written.
    """
    episodes = chosen(run, only)
    with writing(out):
        write_eval_log(_log(run, episodes), out)
    return len(episodes)


def chat_messages(messages: Sequence[Mapping[str, Any]]) -> list[ChatMessage]:
    """Messages of OpenAI's chat format as Inspect has them."""
    return [_message(message) for message in messages]


def score_of(episode: EpisodeRecord) -> Score:
    """The metrics of an episode, with its answer and how it ended."""
    measured = {name: float(value) for name, value in episode.measured.items() if value is not None}
    return Score(value=measured, answer=episode.prediction, explanation=episode.ended)


def _message(message: Mapping[str, Any]) -> ChatMessage:
    content = message.get("content") or ""
    match message["role"]:
        case "user":
            return ChatMessageUser(content=content)
        case "tool":
            return ChatMessageTool(content=content, tool_call_id=message["tool_call_id"])
        case _:
            calls = [_call(call) for call in message.get("tool_calls") or ()]
            return ChatMessageAssistant(content=content, tool_calls=calls or None)


def _call(call: Mapping[str, Any]) -> ToolCall:
    called = call["function"]
    try:
        arguments = json.loads(called["arguments"])
    except json.JSONDecodeError as error:
        return ToolCall(id=call["id"], function=called["name"], arguments={}, parse_error=str(error))
    return ToolCall(id=call["id"], function=called["name"], arguments=arguments if isinstance(arguments, dict) else {})


def _log(run: Finished, episodes: Sequence[EpisodeRecord]) -> EvalLog:
    manifest, ids = run.manifest, list(dict.fromkeys(episode.question_id for episode in episodes))
    told = manifest.get("created")
    created = datetime.strptime(told, _CREATED) if told else datetime.now(UTC)
    return EvalLog(
        status="success",
        eval=EvalSpec(
            created=created.isoformat(),
            task=f"at2po/{run.benchmark.lower()}",
            run_id=run.path.name,
            eval_id=run.path.name,
            task_id=run.path.name,
            task_args={"split": run.split},
            dataset=EvalDataset(name=run.benchmark, samples=len(ids), sample_ids=ids),
            model=run.model,
            model_generate_config=GenerateConfig(temperature=manifest.get("sampling", {}).get("temperature")),
            config=EvalConfig(epochs=max(episode.sample for episode in episodes) + 1),
            metadata={"manifest": dict(manifest)},
        ),
        results=_results(episodes),
        stats=_stats(run.model, episodes, created),
        samples=[_sample(run, episode) for episode in episodes],
    )


def _stats(model: str, episodes: Sequence[EpisodeRecord], started: datetime) -> EvalStats:
    """Tokens, and as the duration the seconds of all episodes together: when the last one ended is not stored."""
    ended = started + timedelta(seconds=sum(episode.seconds for episode in episodes))
    usage = sum(map(_usage, episodes), ModelUsage())
    return EvalStats(started_at=started.isoformat(), completed_at=ended.isoformat(), model_usage={model: usage})


def _results(episodes: Sequence[EpisodeRecord]) -> EvalResults:
    scored = [episode for episode in episodes if episode.error is None]
    scores = []
    for name in scored[0].measured if scored else ():
        values = [float(value) for episode in scored if (value := episode.measured[name]) is not None]
        if values:
            mean = EvalMetric(name="mean", value=float(np.mean(values)))
            count = {"scored_samples": len(values), "unscored_samples": len(episodes) - len(values)}
            scores.append(EvalScore(name=name, scorer=SCORER, metrics={"mean": mean}, **count))
    return EvalResults(total_samples=len(episodes), completed_samples=len(scored), scores=scores)


def _sample(run: Finished, episode: EpisodeRecord) -> EvalSample:
    told = trace(run, episode)
    messages = chat_messages(told["messages"])
    last = messages[-1] if messages and isinstance(messages[-1], ChatMessageAssistant) else None
    return EvalSample(
        id=episode.question_id,
        epoch=episode.sample + 1,
        input=episode.question,
        target=list(episode.answers),
        messages=messages,
        output=ModelOutput.from_message(last) if last is not None else ModelOutput(),
        scores={SCORER: score_of(episode)} if episode.error is None else {},
        metadata={key: told["metadata"][key] for key in ("env", "split", "dialect")} | _error(episode),
        model_usage={run.model: _usage(episode)},
        total_time=episode.seconds,
    )


def _error(episode: EpisodeRecord) -> dict[str, str]:
    return {} if episode.error is None else {"error": episode.error}


def _usage(episode: EpisodeRecord) -> ModelUsage:
    read, written = episode.prompt_tokens or 0, episode.completion_tokens or 0
    return ModelUsage(input_tokens=read, output_tokens=written, total_tokens=read + written)
