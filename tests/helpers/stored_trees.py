"""A small tree grown by hand, and its record as a run stores it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from at2po_agent.method.tree import TurnNode, TurnTree
from at2po_agent.training.stored_trees import tree_record

WORDS = {
    1: "question",
    2: "<search> x </search>",
    3: "<result> y </result>",
    4: "right",
    5: "wrong",
    6: "\x1b[2J[red]evil\x07",
}


def grown(question_id: str = "q1") -> TurnTree:
    """One search turn with two answers under it, and an answer at once."""
    tree = TurnTree((1,), question_id=question_id)
    tree.add(TurnNode(parent=0, group=0, depth=1, action=(2,), logp=(-0.5,), observation=(3,)))
    tree.add(TurnNode(parent=1, group=0, depth=2, action=(4,), logp=(-0.25,), leaf=True, reward=1.0, ended="answer"))
    tree.add(TurnNode(parent=1, group=0, depth=2, action=(5,), logp=(-2.0,), leaf=True, reward=0.0, ended="answer"))
    tree.add(TurnNode(parent=0, group=1, depth=1, action=(6,), logp=(-1.0,), leaf=True, reward=-1.0, ended="malformed"))
    return tree


def record(tree: TurnTree, words: Mapping[int, str] = WORDS, **changes: object) -> dict[str, object]:
    made = tree_record(
        tree,
        question="Who [b]?",
        answers=["A", "B"],
        advantages=[[0.5, 1.5], [-0.25, -0.5], [-1.0]],
        values=[0.0, 0.5, 1.5, -0.5, -1.0],
        decode=lambda ids: " ".join(words[i] for i in ids),
    )
    return json.loads(json.dumps(made)) | changes
