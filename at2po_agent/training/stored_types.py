"""Types of what a training run stores, checked when it is read; keys that they do not name are let through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired

from pydantic import Field, Strict
from typing_extensions import TypedDict

from at2po_agent.method.tree import TurnTree
from at2po_agent.training.metrics import Scores
from at2po_agent.training.stored_files import Count, Number, fitting
from search_backend.outside import Unusable

Index = Annotated[int, Strict(), Field(ge=-1)]  # -1: there is none


class MetricsLine(TypedDict):
    """A line of ``metrics.jsonl``, whose other values are numbers, words or null."""

    step: Count
    time: NotRequired[dict[str, Number | None]]


_Values = dict[str, Number | bool | str | None]


def check_metrics(line: Any) -> dict[str, Any]:
    """A line of ``metrics.jsonl`` as it is.

    Raises:
        Unusable: it is none.
    """
    fitting(line, MetricsLine)
    fitting({name: value for name, value in line.items() if name != "time"}, _Values)
    return dict(line)


class StoredSession(TypedDict, total=False):
    """An entry of a run's ``manifest.json``."""

    from_step: Annotated[int, Strict(), Field(ge=-1, le=10**9)]
    accepted: list[str]
    config: dict[str, Any]


class StoredManifest(TypedDict):
    """A run's ``manifest.json``."""

    sessions: list[StoredSession]


class _Scores(TypedDict):
    step: Count
    ids: list[str]
    values: list[Number]
    groups: list[str]
    means: dict[str, Number | None]
    source: NotRequired[str]
    metric: NotRequired[str]
    title: NotRequired[str]
    share: NotRequired[Annotated[bool, Strict()]]
    task_word: NotRequired[str]


def check_scores(value: Any) -> Scores:
    """The scores of an evaluation: a file of ``evaluations/``.

    Raises:
        Unusable: they are none, or not as many as there are questions.
    """
    if isinstance(value, dict) and "em" in value:  # as earlier versions named the values
        value = {"values": value["em"], **{name: part for name, part in value.items() if name != "em"}}
    fitting(value, _Scores)
    try:
        scores = Scores.from_json(value)
    except (TypeError, ValueError) as error:
        raise Unusable(str(error)) from error
    if scores.share and not all(0 <= score <= 1 for score in scores.values):
        raise Unusable(f"a share of {scores.title} is not between 0 and 1")
    return scores


class _Node(TypedDict):
    parent: Index
    group: Index
    action: list[Count]
    logp: list[Number]
    observation: list[Count]
    leaf: Annotated[bool, Strict()]
    reward: Number | None
    ended: str | None
    top_logprobs: list[list[tuple[Count, Number]]]
    version: Annotated[int, Strict()]
    straddles: Annotated[bool, Strict()]
    info: dict[str, Any]


class _Tree(TypedDict):
    question_id: str
    nodes: list[_Node]
    proposals: list[list[tuple[Count, Index]]]
    open_paths: Count
    fresh: list[Count]


class _Batch(TypedDict):
    trees: list[_Tree]
    equal: list[_Tree]
    surplus: list[_Tree]
    dropped: dict[str, str]
    lost_paths: Count
    questions: Count
    engine: dict[str, Number | None]


def check_batch(value: Any) -> dict[str, Any]:
    """The trees of a step that a checkpoint holds, as they are (see ``batches.Batch.pack``).

    Raises:
        Unusable: they are none.
    """
    fitting(value, _Batch)
    return dict(value)


class _Texts(TypedDict):
    action: str
    observation: str


class _Record(TypedDict):
    question: str
    answers: list[str]
    tree: _Tree
    advantages: list[list[Number]]
    values: list[Number] | None
    texts: list[_Texts]


def check_tree(record: Any) -> dict[str, Any]:
    """A line of a file of trees as it is (see ``stored_trees.tree_record``).

    Raises:
        Unusable: it is none, or its parts do not belong to one tree.
    """
    fitting(record, _Record)
    try:
        tree = TurnTree.from_json(record["tree"])
    except ValueError as error:
        raise Unusable(str(error)) from error
    _check_lengths(record, tree)
    return dict(record)


def _check_lengths(record: Mapping[str, Any], tree: TurnTree) -> None:
    per_node: Sequence[Any] = record["texts"], record["values"] or record["texts"]
    if any(len(values) != len(tree) for values in per_node):
        raise Unusable(f"texts or values are not of {len(tree)} turns")
    paths = [len(path) for _, path in tree.trajectories()]
    if [len(row) for row in record["advantages"]] != paths:
        raise Unusable("the advantages are not of the turns of each leaf")
