"""A training run as the data of its page: how it went, and its stored trees, turn by turn."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from at2po_agent.glossary import EPISODES, TIME, Entry, logged
from at2po_agent.judge.view.page import Heading
from at2po_agent.method.tree import ROOT, TurnTree
from at2po_agent.training.metrics import Scores
from at2po_agent.training.run_dir import (
    RunDirError,
    evaluation_files,
    read_metrics,
    read_trees,
    some_tree_files,
    step_of,
)
from at2po_agent.training.stored_files import read_value
from at2po_agent.training.stored_types import check_scores
from at2po_env.dialects import NATIVE, TAGS
from search_backend.outside import Unusable

_CHARTS = (  # metric of a step, its label, and whether it is a share
    ("reward", "Reward", False),
    ("entropy", "Entropy, nats a token", False),
    ("update_ppo_kl", "KL to the policy that sampled, nats a token", False),
    ("update_clip_fraction", "Clipped", True),
    ("update_grad_norm", "Gradient norm, before clipping", False),
    ("malformed", "Malformed", True),
    ("turns", "Turns of an episode", False),
)
_RATE = "tokens_per_second"
_CALL = re.compile(r"<([\w.-]+)>([^<>]*)</\1>$")
_SPOKEN = (TAGS, NATIVE)  # the dialect of a stored tree is not known; between them these read every one


def chosen_steps(run: Path, most: int) -> list[Path]:
    """The tree files that a page shows: all, or as many evenly spread ones as hold about ``most`` trees.

    Raises:
        RunDirError: the run has stored no trees.
    """
    stored = some_tree_files(run)
    fits = max(1, most // max(1, len(read_trees(stored[-1]))))
    if fits >= len(stored):
        return stored
    last = len(stored) - 1  # the last step is always among them
    return [stored[last - last * i // fits] for i in reversed(range(fits))]


def training_page(
    run: Path, heading: Heading, files: Sequence[Path]
) -> tuple[dict[str, Any], list[list[dict[str, Any]]]]:
    """Build what the page of a run shows at once, and one chunk for each of ``files``, the last step first.

    Raises:
        RunDirError: something stored cannot be read.
    """
    rows, chunks = [], []
    for number, file in enumerate(reversed(files)):
        records = read_trees(file)
        views = [tree_view(record) for record in records]
        chunks.append(views)
        rows += [_row(number, at, step_of(file), record, views[at]) for at, record in enumerate(records)]
    evaluations = _evaluations(run)
    head = {
        "kind": "training",
        **heading.to_json(),
        "charts": [chart for chart in _charts(run, evaluations) if len(chart["series"][0]["points"]) > 1],
        "result": _result(evaluations),
        "trees": rows,
    }
    return head, chunks


def tree_view(record: Mapping[str, Any]) -> dict[str, Any]:
    """A stored tree without tokens: for every turn its text, its numbers and its parent.

    ``advantage`` is over the leaves that pass through a turn, ``reward`` the mean over the leaves under it.
    """
    tree = TurnTree.from_json(record["tree"])
    advantages: dict[int, list[float]] = {}
    rewards: dict[int, list[float]] = {}
    for (leaf, path), row in zip(tree.trajectories(), record["advantages"], strict=True):
        for n, value in zip(path, row, strict=True):
            advantages.setdefault(n, []).append(value)
            rewards.setdefault(n, []).append(tree[leaf].reward or 0.0)
    nodes = []
    for n, node in enumerate(tree.nodes):
        text = record["texts"][n]
        kind, label = _action(text["action"], node.ended)
        credited = advantages.get(n)
        nodes.append(
            {
                "parent": node.parent,
                "group": node.group,
                "kind": kind,
                "label": label,
                "text": text["action"],
                "observation": "" if n == ROOT else text["observation"],
                "tokens": len(node.action),
                "entropy": node.entropy,
                "value": record["values"][n] if record.get("values") else None,
                "advantage": credited
                and {"low": min(credited), "mean": sum(credited) / len(credited), "high": max(credited)},
                "reward": sum(rewards[n]) / len(rewards[n]) if n in rewards else 0.0,
                "ended": node.ended if node.leaf else None,
            }
        )
    return {"answers": record["answers"], "prompt": record["texts"][ROOT]["observation"], "nodes": nodes}


def _action(text: str, ended: str | None) -> tuple[str, str]:
    """The text of a turn's action on its node."""
    for dialect in _SPOKEN if ended != "malformed" else ():
        action = dialect.parse(text)
        if action.content is not None:
            return action.kind, action.content
    said = " ".join(text.split())
    # Of a task that is no search the stored tree knows the turns' texts: in most dialects a tag named like the tool.
    call = _CALL.search(said)
    if ended != "malformed" and call:
        return "call", f"{call[1]} {call[2]}".strip()
    return "malformed" if ended == "malformed" else "turn", said


def _row(chunk: int, at: int, step: int, record: Mapping[str, Any], view: Mapping[str, Any]) -> dict[str, Any]:
    rewards = [node["reward"] for node in view["nodes"] if node["ended"] is not None]
    right = sum(reward > 0 for reward in rewards)
    verdict = "mixed" if len(set(rewards)) > 1 else "correct" if right else "wrong"
    return {
        "chunk": chunk,
        "at": at,
        "step": step,
        "index": at,
        "id": record["tree"]["question_id"],
        "question": record["question"],
        "gold": record["answers"][0] if record["answers"] else "",
        "leaves": len(rewards),
        "right": right,
        "verdict": verdict,
    }


def _charts(run: Path, evaluations: Sequence[Scores]) -> Iterator[dict[str, Any]]:
    """As ``chart.js`` draws them: points are [step, value], or [step, mean, low, high] where there is an interval."""
    lines = list(read_metrics(run))
    if len(evaluations) > 2:  # two are before and after, which the page says in words
        scored = [(scores.step, scores.interval()) for scores in evaluations if scores.values]
        points = [[step, one.mean, one.low, one.high] for step, one in scored]
        last = evaluations[-1]
        yield _chart(f"{last.heading}, held out", points, last.share, EPISODES.get(last.metric))
    for name, label, share in _CHARTS:
        points = [[line["step"], line[name]] for line in lines if line.get(name) is not None]
        yield _chart(label, points, share, logged(name))
    rates = [[line["step"], line["time"][_RATE]] for line in lines if line.get("time", {}).get(_RATE) is not None]
    yield _chart("Generated tokens a second", rates, False, TIME[_RATE])


def _chart(label: str, points: Sequence[Sequence[float]], share: bool, entry: Entry | None) -> dict[str, Any]:
    series = [{"name": label, "points": list(points)}]
    return {"label": label, "x": "step", "share": share, "series": series, "meaning": str(entry) if entry else None}


def _evaluations(run: Path) -> list[Scores]:
    try:
        return [read_value(file, check_scores) for file in evaluation_files(run)]
    except Unusable as error:
        raise RunDirError(f"{error}; restore the file, or remove it") from error


def _result(evaluations: Sequence[Scores]) -> dict[str, Any] | None:
    """The first and the last evaluation over the questions that both scored; None where there are not two."""
    if len(evaluations) < 2:
        return None
    first, last = evaluations[0], evaluations[-1]
    before = dict(zip(first.ids, first.values, strict=True))
    after = dict(zip(last.ids, last.values, strict=True))
    common = [id for id in before if id in after]
    if not common:
        return None
    start, end = [before[id] for id in common], [after[id] for id in common]
    gain = last.gain(start, end)
    return {
        "label": f"{last.heading}, greedy",
        "share": last.share,
        "task": last.task_word,
        "before": sum(start) / len(start),
        "after": sum(end) / len(end),
        "gain": {"mean": gain.mean, "low": gain.low, "high": gain.high, "n": gain.n},
    }
