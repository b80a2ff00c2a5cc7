"""Say why a finished evaluation is broken: how many episodes went wrong in one way, one of them, and what to try."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from at2po_agent.judge.config import DIALECT_OF, Format, JudgeConfig
from at2po_agent.judge.episodes.records import EpisodeRecord, malformed
from at2po_agent.terminal import visible
from at2po_env.dialects import DIALECTS

BROKEN = 0.5  # the share of scored episodes from which on an evaluation is taken for broken
_SHOWN = 240  # characters of a turn


@dataclass(frozen=True)
class _Fault:
    """A fault that many episodes of an evaluation share."""

    name: str
    episodes: Sequence[EpisodeRecord]
    reason: str
    advice: str
    view: str  # flags of ``at2po-agent view`` that show the episodes
    overrides: str  # settings to try


def diagnosis(episodes: Sequence[EpisodeRecord], config: JudgeConfig, run: Path) -> str | None:
    """Explain what is wrong with at least half of the scored episodes.

    Args:
        episodes: of a finished evaluation.
        config: that they were played with.
        run: the directory of the evaluation, for the commands to go on with.

    Returns:
        Lines with the share, the reasons, one short transcript and two commands; None where nothing is wrong.
    """
    scored = [episode for episode in episodes if episode.error is None]
    for fault in (_malformed(scored, config), _without_room(scored, config)):
        if scored and len(fault.episodes) >= BROKEN * len(scored):
            share = f"{len(fault.episodes):,} of {len(scored):,} episodes {fault.name}"
            config_file = shlex.quote(str(run / "config.yaml"))
            return "\n".join(
                [
                    f"{share} ({len(fault.episodes) / len(scored):.1%}): {fault.reason}",
                    f"  {fault.advice}",
                    *_transcript(min(fault.episodes, key=_length)),
                    f"  read them: at2po-agent view {shlex.quote(str(run))} {fault.view}",
                    f"  try again: at2po-agent eval --cfg {config_file} {fault.overrides}",
                ]
            )
    return None


def _malformed(scored: Sequence[EpisodeRecord], config: JudgeConfig) -> _Fault:
    found = [episode for episode in scored if malformed(episode)]
    whys = Counter(str(turn.action["why"]) for episode in found for turn in episode.turns if turn.action.get("why"))
    reason = "; ".join(f"{visible(why)} ({count:,})" for why, count in whys.most_common(3))
    longer = f"limits.max_turn_tokens={2 * config.limits.max_turn_tokens}"
    if config.model.base_url is None:
        overrides = "env.dialect=NAME"
        search = not any(episode.metrics for episode in scored)  # other tasks have dialects of their own
        dialects = f" ({', '.join(DIALECTS)})" if search else ""
        advice = f"try the dialect that the model was trained with{dialects}, or {longer}"
    else:
        other: Format = "native" if config.format == "tags" else "tags"
        # A dialect that was asked for has to change with the format.
        overrides = f"format={other}" + (f" env.dialect={DIALECT_OF[other]}" if "dialect" in config.env else "")
        advice = f"try format={other}, or {longer} where the model thinks at length"
    return _Fault("malformed", found, reason, advice, "--filter malformed", overrides)


def _without_room(scored: Sequence[EpisodeRecord], config: JudgeConfig) -> _Fault:
    found = [episode for episode in scored if episode.ended == "length_limit"]
    override = f"limits.max_response_tokens={2 * config.limits.max_response_tokens}"
    view = f"--question {shlex.quote(min(found, key=_length).question_id)}" if found else ""
    reason = f"turns and results took more than {config.limits.max_response_tokens:,} tokens"
    passages = ", or fewer passages (env.k)" if any(turn.hits for episode in found for turn in episode.turns) else ""
    advice = f"try {override}{passages}"
    return _Fault("ended without room for an answer", found, reason, advice, view, override)


def _length(episode: EpisodeRecord) -> int:
    return sum(len(turn.text) for turn in episode.turns)


def _transcript(episode: EpisodeRecord) -> list[str]:
    """The question and the last turns, each on a line."""
    lines = [f"  for example {visible(episode.question_id, _SHOWN)}: {_line(episode.question)}"]
    for number, turn in list(enumerate(episode.turns, start=1))[-3:]:
        why = f"  ({visible(str(turn.action['why']))})" if turn.action.get("why") else ""
        lines.append(f"    turn {number}, {turn.action.get('kind')}: {_line(turn.text) or 'nothing'}{why}")
    return lines


def _line(text: str) -> str:
    return " ".join(visible(text, _SHOWN).split())
