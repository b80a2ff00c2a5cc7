"""The manifest of an evaluation: everything that decides its results, by digest, and the code that made them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from typing_extensions import TypedDict

from at2po_agent.judge.config import JudgeConfig
from at2po_agent.judge.search_qa import measures
from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.provenance import describe_code, differences
from at2po_agent.training.stored_files import Number
from at2po_env.tasks import TaskEnv

FORMAT = "at2po-eval/1"
PACKAGES = ("gymnasium", "numpy", "omegaconf", "openai", "tantivy", "tokenizers", "torch", "transformers")
_CIRCUMSTANCES = ("code", "components", "created", "price", "search_at")  # of a run: they do not decide what it finds


class _Model(TypedDict, total=False):
    name: str


class _Dataset(TypedDict, total=False):
    split: str
    digest: str


class _Dialect(TypedDict, total=False):
    name: str
    digest: str
    tools: list[dict[str, Any]]


class _Sampling(TypedDict, total=False):
    temperature: Number | None


class _Price(TypedDict, total=False):
    prompt: Number | None
    completion: Number | None


class _Metric(TypedDict):
    name: str
    share: bool
    title: str
    words: str


class StoredManifest(TypedDict, total=False):
    """Parts of a stored manifest that are read; those of other versions may lack some, or have more."""

    env: str
    model: _Model
    dataset: _Dataset
    search: dict[str, Any]
    dialect: _Dialect
    questions: list[str]
    sampling: _Sampling
    price: _Price | None
    limits: dict[str, Any]
    metrics: str | list[_Metric]
    task_word: str
    tree: EntropyGuided


def manifest(config: JudgeConfig, env: TaskEnv[Any], ids: Sequence[str], model: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of one environment's evaluation.

    Args:
        config: with one environment.
        env: it, open.
        ids: the questions.
        model: what says which model it is: name and address, or name and digest of a local one.
    """
    described = {
        "format": FORMAT,
        "env": config.envs[0],
        "model": dict(model),
        **env.manifest(),
        "questions": list(ids),
        "samples": config.samples,
        "action_format": config.format,
        "sampling": {"temperature": config.temperature, "seed": config.seed, "request": config.request},
        "limits": {
            **env.limits,
            "max_turn_tokens": config.limits.max_turn_tokens,
            "max_prompt_tokens": config.limits.max_prompt_tokens,
            "max_response_tokens": config.limits.max_response_tokens,
        },
        "metrics": measures(env),
        "price": {"prompt": config.model.price_prompt, "completion": config.model.price_completion},
        "code": describe_code(PACKAGES),
        "created": f"{datetime.now().astimezone():%Y-%m-%dT%H:%M:%S%z}",
    }
    # Older manifests, which can be resumed, do not name it.
    if env.task_word != "question":
        described["task_word"] = env.task_word
    if config.tree:
        described["tree"] = tree = dataclasses.asdict(config.expansion)
        # Said only where they are not the paper's: older manifests do not name them, and can be resumed.
        if tree["candidates"] == "turns":
            del tree["candidates"]
    as_read_back: dict[str, Any] = json.loads(json.dumps(described))
    return as_read_back


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences between two manifests that can change results, in words."""
    left = {key: value for key, value in before.items() if key not in _CIRCUMSTANCES}
    right = {key: value for key, value in now.items() if key not in _CIRCUMSTANCES}
    return list(differences(left, right))
