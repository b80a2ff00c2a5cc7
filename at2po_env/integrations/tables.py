"""Tasks as tables for people who train elsewhere: a Hugging Face dataset, and Search-R1's Parquet layout.

.. code-block:: python

    env = gymnasium.make("at2po_env:AT2PO-HotpotQA-v0", split="train", dialect="search_r1").unwrapped
    to_dataset(env)                           # id, prompt, question, answers, group, data_source, split, tools
    write_search_r1(env, Path("train.parquet"))

Both hold what a task says of itself and its first prompt. Searching and scoring stay with the environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2po_env.dataset import DataError
from at2po_env.errors import EnvError
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import ToolPrompt, plain
from at2po_env.tasks import Task, TaskEnv

if TYPE_CHECKING:
    from datasets import Dataset

_ABILITY = "fact-reasoning"  # Search-R1's word for question answering
_KINDS = {str: "string", int: "int64"}


def rows(env: TaskEnv[Any]) -> Iterator[dict[str, Any]]:
    """The tasks of an environment in its order.

    ``prompt`` is a list of chat messages, ``tools`` the JSON of the schemas that go with it: empty where none do.
    """
    told = env.manifest()["dataset"]
    for task, prompt, tools in _tasks(env):
        yield {
            "id": task.id,
            "prompt": prompt,
            "question": task.text,
            "answers": list(task.answers),
            "group": task.group,
            "data_source": told["name"],
            "split": told["split"],
            "tools": json.dumps(tools, ensure_ascii=False) if tools else "",
        }


def to_dataset(env: TaskEnv[Any]) -> Dataset:
    """The tasks as a dataset of the package ``datasets``, with the columns of :func:`rows`.

    Raises:
        EnvError: the package is not installed.
    """
    try:
        from datasets import Dataset
    except ImportError as error:
        raise EnvError("to_dataset needs the package datasets: pip install 'at2po[datasets]'") from error
    columns: dict[str, list[Any]] = {}
    for row in rows(env):
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return Dataset.from_dict(columns)


def search_r1_rows(env: TaskEnv[Any]) -> Iterator[dict[str, Any]]:
    """The tasks as rows of Search-R1's training files (scripts/data_process/nq_search.py there), which verl reads.

    ``metadata`` holds what the benchmark says of a question in texts and whole numbers, and ``supporting_titles``.

    Raises:
        DataError: a task has no reference answers, which the reward over there compares with.
    """
    told = env.manifest()["dataset"]
    for index, (task, prompt, _) in enumerate(_tasks(env)):
        if not task.answers:
            raise DataError(
                f"{told['name']} {told['split']}, task {task.id!r}: it has no reference answers, which Search-R1's "
                "layout needs; to_dataset takes any task"
            )
        answers = list(task.answers)
        yield {
            "id": task.id,
            "question": task.text,
            "golden_answers": answers,
            "data_source": told["name"],
            "prompt": prompt,
            "ability": _ABILITY,
            "reward_model": {"style": "rule", "ground_truth": {"target": answers}},
            "extra_info": {"index": index, "split": told["split"]},
            "metadata": _metadata(env, task),
        }


def write_search_r1(env: TaskEnv[Any], path: Path) -> int:
    """Write :func:`search_r1_rows` as a Parquet file; returns how many rows it has.

    ``at2po-agent data import`` reads it back, except for the passages that came with the questions.

    Raises:
        DataError: a task has no reference answers, metadata of one name are now text and now a number, or pyarrow is
            not installed.
        OSError: the file cannot be written; what was there before is left as it was.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path}: Parquet is written with pyarrow: pip install 'at2po[parquet]'") from error
    written = list(search_r1_rows(env))
    texts = pyarrow.list_(pyarrow.string())
    fields = {name: kind for row in written for name, kind in _kinds(row["metadata"]).items()}
    schema = pyarrow.schema(
        {
            "id": pyarrow.string(),
            "question": pyarrow.string(),
            "golden_answers": texts,
            "data_source": pyarrow.string(),
            "prompt": pyarrow.list_(pyarrow.struct({"role": pyarrow.string(), "content": pyarrow.string()})),
            "ability": pyarrow.string(),
            "reward_model": pyarrow.struct(
                {"style": pyarrow.string(), "ground_truth": pyarrow.struct({"target": texts})}
            ),
            "extra_info": pyarrow.struct({"index": pyarrow.int64(), "split": pyarrow.string()}),
            "metadata": pyarrow.struct({"supporting_titles": texts, **fields}),
        }
    )
    part = path.with_name(f"{path.name}.part")
    try:
        try:
            table = pyarrow.Table.from_pylist(written, schema)
        except (pyarrow.ArrowException, TypeError, OverflowError) as error:
            raise DataError(
                f"{path}: metadata of one name must be texts, or whole numbers of 64 bits: {error}"
            ) from error
        pyarrow.parquet.write_table(table, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return len(written)


def _tasks(env: TaskEnv[Any]) -> Iterator[tuple[Task, list[dict[str, str]], Sequence[Mapping[str, Any]]]]:
    """Every task with its first prompt as chat messages, and the tools that go with it."""
    reader = env.clone()
    for task_id in env.tasks:
        reader.begin(task_id)
        prompt = reader.observation()
        tools = prompt.tools if isinstance(prompt, ToolPrompt) else ()
        yield env.task(task_id), [{"role": "user", "content": plain(prompt)}], tools


def _metadata(env: TaskEnv[Any], task: Task) -> dict[str, Any]:
    if not isinstance(env, SearchQAEnv):
        return {"supporting_titles": []}
    question = env.question(task.id)
    told = {name: value for name, value in question.metadata.items() if type(value) in _KINDS}
    return {"supporting_titles": list(question.supporting_titles), **told}


def _kinds(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {name: _KINDS[type(value)] for name, value in metadata.items() if type(value) in _KINDS}
