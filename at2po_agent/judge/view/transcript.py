"""Episodes on a terminal: a table to choose from, and one of them turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text as Line

from at2po_agent.judge.episodes.records import EpisodeRecord, TurnRecord, verdict
from at2po_agent.judge.view.passages import Shown, shown_passages
from at2po_agent.terminal import amount, visible

STYLES = {"correct": "green", "wrong": "red", "malformed": "yellow", "cut": "yellow", "error": "magenta"}


_ROOM = 110  # columns of a terminal that has room for more than question and prediction


def episode_table(episodes: Sequence[EpisodeRecord], title: str, width: int, first: int = 1) -> Table:
    """One row per episode.

    Args:
        episodes: in order.
        title: above the table.
        width: of the terminal; a narrow one leaves out ids, gold answers and turns.
        first: the number of the first row.
    """
    table = Table(title=Line(visible(title)), title_justify="left")
    widths = {
        "": len(str(first + len(episodes))),
        "id": max(map(len, map(_name, episodes)), default=2),
        "verdict": 9,
        "question": 0,
        "prediction": 16,
    }
    widths |= {"gold": 16, "turns": 5}
    hidden = {"gold"} if not any(episode.answers for episode in episodes) else set()
    hidden |= {"id", "gold", "turns"} if width < _ROOM else set()
    shown = [at for at, name in enumerate(widths) if name not in hidden]
    names = [list(widths)[at] for at in shown]
    widths["question"] = max(20, width - sum(widths[name] for name in names) - 3 * len(names) - 1)
    for name in names:
        side: Literal["left", "right"] = "right" if name in ("", "turns") else "left"
        table.add_column(name, justify=side, overflow="ellipsis", no_wrap=True, width=widths[name])
    for number, episode in enumerate(episodes, start=first):
        said = episode.error or (f"({episode.ended})" if episode.prediction is None else episode.prediction)
        gold, word = " | ".join(episode.answers), verdict(episode)
        texts = (str(number), _name(episode), word, episode.question, said, gold, str(len(episode.turns)))
        cells = [Line(_one_line(text), STYLES[word] if text in (word, said) else "") for text in texts]
        table.add_row(*(cells[at] for at in shown))
    return table


def transcript(episode: EpisodeRecord, *, passages: bool = False) -> RenderableType:
    """An episode to read.

    Args:
        episode: what is shown.
        passages: their texts too, and what the model read first; else only their titles.
    """
    parts: list[RenderableType] = [Line(visible(episode.question), "bold"), _verdict(episode)]
    if passages and episode.prompt:
        parts += [Line("what the model read first", "dim"), _indented(Line(visible(episode.prompt), "dim"))]
    for number, turn in enumerate(episode.turns, start=1):
        parts += _turn(number, turn, frozenset(episode.gold_titles), passages)
    return Group(*parts)


def _verdict(episode: EpisodeRecord) -> Line:
    word = verdict(episode)
    line = Line.assemble((f"{_name(episode)}  ", "dim"), (word, STYLES[word]))
    if episode.error is not None:
        return line.append(f"  {visible(episode.error)}")
    if episode.metrics and episode.prediction is None:
        line.append(f"  {visible(episode.ended)}", "bold")
    else:
        line.append("  answer ").append(visible(episode.prediction or f"none ({episode.ended})"), "bold")
    if episode.answers:
        line.append("  gold ").append(visible(" | ".join(episode.answers)), "green")
    scores = (("EM", episode.em, "g"), ("F1", episode.f1, ".2f"), ("recall", episode.recall, ".2f"))
    known = [f"  {name} {value:{form}}" for name, value, form in scores if value is not None]
    return line.append("".join(known + [f"  {name} {amount(value)}" for name, value in episode.metrics.items()]), "dim")


def _turn(number: int, turn: TurnRecord, gold: frozenset[str], passages: bool) -> list[RenderableType]:
    kind = str(turn.action.get("kind", ""))
    head = Line.assemble((f"\nturn {number}", "bold"), f"  {kind}")
    tokens = "" if turn.completion_tokens is None else f"  {turn.completion_tokens} tokens"
    head.append(f"{tokens}  {turn.seconds:.1f} s", "dim")
    head.append("  cut at the token limit" if turn.finish == "length" else "", "yellow")
    parts: list[RenderableType] = [head]
    if turn.reasoning:
        parts.append(_indented(Line(visible(turn.reasoning), "dim italic")))
    parts.append(_indented(Line(visible(turn.text))))
    if turn.action.get("why"):
        parts.append(_indented(Line(visible(str(turn.action["why"])), "yellow")))
    if turn.hits:
        for rank, hit in enumerate(shown_passages(turn.observation, turn.hits), start=1):
            parts += _passage(rank, hit, hit.title in gold, passages)
    elif turn.observation:
        parts.append(_indented(Line(visible(turn.observation), "dim")))
    return parts


def _passage(rank: int, hit: Shown, gold: bool, text: bool) -> list[RenderableType]:
    line = Line(f"({rank}) {visible(hit.title)}", "bold yellow" if gold else "cyan")
    line.append("  ★ gold" if gold else "")
    if hit.score is not None:
        line.append(f"  {hit.score:.2f}", "dim")
    if hit.body is None:
        line.append("  not shown: no room", "dim")
    shown: list[RenderableType] = [_indented(line, 4)]
    return [*shown, _indented(Line(visible(hit.body), "dim"), 8)] if text and hit.body else shown


def _name(episode: EpisodeRecord) -> str:
    return episode.question_id + (f" #{episode.sample + 1}" if episode.sample else "")


def _one_line(text: str) -> str:
    return " ".join(visible(text).split())


def _indented(line: Line, by: int = 2) -> Padding:
    return Padding(line, (0, 0, 0, by))
