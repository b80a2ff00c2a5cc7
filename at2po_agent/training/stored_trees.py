"""Stored trees, and a look at one in the terminal: turns, entropy, value, advantage, reward."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text as Line
from rich.tree import Tree

from at2po_agent.method.tree import ROOT, TurnNode, TurnTree
from at2po_agent.terminal import SafeConsole, visible
from at2po_agent.training.run_dir import RunDirError, read_trees, some_tree_files, step_of
from at2po_env.tasks import Task


def tree_record(
    tree: TurnTree,
    *,
    question: str,
    answers: Sequence[str],
    advantages: Sequence[Sequence[float]],
    values: Sequence[float] | None,
    decode: Callable[[Sequence[int]], str],
) -> dict[str, Any]:
    """One tree as ``RunDirectory.save_trees`` stores it: ``TurnTree.from_json(record["tree"])`` opens it again.

    Args:
        tree: grown, pruned and scored; its leaves carry the rewards.
        question: as it was asked.
        answers: the gold ones.
        advantages: [leaf][turn], from the credit.
        values: [node] ``V(n)``, where the credit has values.
        decode: token ids to text, for reading only.
    """
    return {
        "question": question,
        "answers": list(answers),
        "tree": tree.to_json(),
        "advantages": [[float(value) for value in row] for row in advantages],
        "values": None if values is None else [float(value) for value in values],
        "texts": [{"action": decode(node.action), "observation": decode(node.observation)} for node in tree.nodes],
    }


def find_tree(
    run: Path, step: int | None = None, index: int | None = None, question: str | None = None
) -> tuple[int, int, dict[str, Any]]:
    """The stored tree that is asked for, as (step, index in its step, record).

    Args:
        run: a run directory.
        step: default the last that has it.
        index: within the step, from 0; default the first that fits.
        question: a question id.

    Raises:
        RunDirError: there is no such tree; the message says what there is.
    """
    if not run.is_dir():
        raise RunDirError(f"there is no run directory {run}")
    files = {step_of(file): file for file in some_tree_files(run)}
    if step is not None and step not in files:
        raise RunDirError(f"{run} has no trees of step {step}; it has steps {ranges(sorted(files))}")
    for at in [step] if step is not None else sorted(files, reverse=True):
        records = read_trees(files[at])
        for i, record in enumerate(records):
            if index in (None, i) and question in (None, record["tree"]["question_id"]):
                return at, i, record
        if question is None:
            raise RunDirError(f"step {at} has trees 0 to {len(records) - 1}, not {index}")
    where = f"step {step}" if step is not None else "any stored step"
    raise RunDirError(f"{run} has no tree of question {question!r} in {where}")


def render(record: Mapping[str, Any], *, width: int = 300) -> Tree:
    """A rich tree of a stored record; texts longer than ``width`` characters are cut, 0 shows them whole."""
    tree = TurnTree.from_json(record["tree"])
    values = record.get("values")
    advantages = _by_node(tree, record["advantages"])
    shown = Tree(Line.assemble((visible(record["question"]), "bold"), (f"  {_gold(record)}", "green")))
    shown.add(Line(visible(record["texts"][ROOT]["observation"], width), "dim"))
    branches = {ROOT: shown}
    for n, node in enumerate(tree.nodes):
        if n != ROOT:
            value = values[n] if values else None
            branch = branches[node.parent].add(_headline(n, node, value, advantages.get(n, ())))
            branch.add(Line(visible(record["texts"][n]["action"], width)))
            if not node.leaf:
                branch.add(Line(visible(record["texts"][n]["observation"], width), "dim"))
            branches[n] = branch
    return shown


def render_tree(
    tree: TurnTree, task: Task, advantages: Sequence[Sequence[float]], decode: Callable[[Sequence[int]], str]
) -> Tree:
    """A rich tree of a grown one: every turn with its entropy, advantage and reward.

    Args:
        tree: grown, pruned and scored.
        task: that it is of.
        advantages: [leaf][turn], from the credit.
        decode: token ids to text.
    """
    record = tree_record(
        tree,
        question=task.text,
        answers=task.answers,
        advantages=advantages,
        values=None,
        decode=decode,
    )
    return render(record)


def examples(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """One tree and two of its paths as plain texts, by name.

    The tree is the first whose leaves have different rewards, or the first; the paths are its best and its worst.

    Args:
        records: as ``tree_record`` makes them; one at least.
    """
    trees = [TurnTree.from_json(record["tree"]) for record in records]
    mixed = (at for at, tree in enumerate(trees) if len({tree[leaf].reward for leaf in tree.leaves}) > 1)
    at = next(mixed, 0)
    record, tree = records[at], trees[at]
    drawn = io.StringIO()
    SafeConsole(file=drawn, width=160, color_system=None).print(render(record))
    leaves = sorted(tree.leaves, key=lambda leaf: tree[leaf].reward or 0.0)
    return {
        "examples/tree": drawn.getvalue(),
        "examples/best_path": _path_text(record, tree, leaves[-1]),
        "examples/worst_path": _path_text(record, tree, leaves[0]),
    }


def _gold(record: Mapping[str, Any]) -> str:
    """The reference answers; empty where the task has none."""
    return f"gold: {visible(' | '.join(record['answers']))}" if record["answers"] else ""


def _path_text(record: Mapping[str, Any], tree: TurnTree, leaf: int) -> str:
    """A path in whole texts: the prompt, and each turn with what came back."""
    texts = record["texts"]
    lines = [visible(record["question"]), _gold(record), ""]
    lines.append(visible(texts[ROOT]["observation"]))
    for number, n in enumerate(tree.path(leaf), start=1):
        lines += ["", f"turn {number}, {len(tree[n].action)} tokens", visible(texts[n]["action"])]
        if n != leaf:
            lines.append(visible(texts[n]["observation"]))
    return "\n".join([*lines, "", f"reward {tree[leaf].reward or 0.0:g} ({tree[leaf].ended})", ""])


def _headline(n: int, node: TurnNode, value: float | None, advantages: Sequence[float]) -> Line:
    line = Line.assemble(
        (f"turn {n}", "bold"), f"  chain {node.group}  {len(node.action)} tokens  H {node.entropy:.3f}"
    )
    if value is not None:
        line.append(f"  V {value:+.3f}")
    if advantages:
        low, high = min(advantages), max(advantages)
        line.append(f"  A {low:+.3f}" if low == high else f"  A {low:+.3f} to {high:+.3f} by leaf")
    if node.leaf:
        reward = node.reward or 0.0
        line.append(f"  reward {reward:g} ({node.ended})", "bold green" if reward > 0 else "bold red")
    return line


def _by_node(tree: TurnTree, advantages: Sequence[Sequence[float]]) -> dict[int, list[float]]:
    """The advantages that a turn has on the leaves that pass through it."""
    found: dict[int, list[float]] = {}
    for (_, path), row in zip(tree.trajectories(), advantages, strict=True):
        for n, value in zip(path, row, strict=True):
            found.setdefault(n, []).append(value)
    return found


def ranges(steps: Sequence[int]) -> str:
    """Step numbers in words, ``1 to 4`` or ``1, 3``; they are sorted, and there is one at least."""
    return f"{steps[0]} to {steps[-1]}" if steps[-1] - steps[0] == len(steps) - 1 > 0 else ", ".join(map(str, steps))
