"""Every row of the paper's tables is a command that composes what was a file, and is the paper's but for its pieces."""

from __future__ import annotations

import dataclasses
import functools
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest

from at2po_agent.commands.main import main
from at2po_agent.method.algorithms import ALGORITHMS, Algorithm, build
from at2po_agent.method.credit import LeafCredit, TurnCredit
from at2po_agent.method.expansion import Chains, RandomExpansion
from at2po_agent.method.objective import GSPO, TokenClip
from at2po_agent.training.config import TrainConfig, load_config
from tests.helpers.paper_rows import commands, flat, rows, stored

MODELS = {"qwen3-4b": "Qwen3-4B", "qwen3-8b": "Qwen3-8B", "qwen2.5-7b": "Qwen2.5-7B"}
TASKS = {"multi-hop": "at2po_env:AT2PO-HotpotQA-v0", "single-hop": "at2po_env:AT2PO-NQ-v0"}
ROWS = list(product(MODELS, TASKS, ALGORITHMS))
BASE = ("qwen3-4b", "multi-hop", "at2po")

ABLATIONS: dict[str, dict[str, Any]] = {
    "no-tree": {"expansion": Chains(22)},
    "no-entropy": {"expansion": RandomExpansion()},
    "no-credit": {"credit": LeafCredit("population")},
    "no-atpo-sequence": {"objective": GSPO()},
    "no-atpo-token": {"objective": TokenClip()},
    "value-child-mean": {"credit": TurnCredit(value="child_mean")},
    "value-leaf-mean": {"credit": TurnCredit(value="leaf_mean")},
    "advantage-diff-parent": {"credit": TurnCredit(advantage="diff_parent")},
    "advantage-diff-global": {"credit": TurnCredit(advantage="diff_global")},
    "advantage-diff-local-global": {"credit": TurnCredit(advantage="diff_local_global")},
}


@functools.cache
def opened(*pieces: str) -> tuple[TrainConfig, Algorithm]:
    config = load_config(pieces)
    return config, build(**vars(config.algorithm)).opened(vocab_size=151669, max_response_tokens=6192)


def equal_budget(name: str) -> tuple[str, str]:
    return name if name == "at2po" else f"{name}-22", "equal-budget"


def test_the_docs_have_every_row_once() -> None:
    tasks = list(product(MODELS, TASKS))
    expected = [
        *ROWS,
        *((model, task, *equal_budget(name)) for model, task, name in ROWS),
        *(("qwen3-4b", "multi-hop", name) for name in ABLATIONS),
        *((*task, "at2po", "lora") for task in tasks),
    ]
    assert sorted(rows()) == sorted(expected) == sorted(stored())


@pytest.mark.parametrize("pieces", stored(), ids="_".join)
def test_a_row_is_field_for_field_what_its_file_said(pieces: tuple[str, ...]) -> None:
    """But for its name: it was ``ablation_no-tree``, or ended in ``_22``. Fields that came later have their default."""
    composed, file = dict(flat(opened(*pieces)[0])), stored()[pieces]
    defaults = dict(flat(dataclasses.replace(TrainConfig(), env=opened(*pieces)[0].env)))
    assert composed == {**defaults, **file, "name": "_".join(pieces)}
    if pieces[-1] in ALGORITHMS or pieces[-1] == "lora":
        assert file["name"] == composed["name"]


@pytest.mark.parametrize(("model", "task", "name"), ROWS, ids="_".join)
def test_a_row_is_what_its_name_says(model: str, task: str, name: str) -> None:
    config, algorithm = opened(model, task, name)
    assert config.policy.path.endswith(f"/{MODELS[model]}") and config.env.id == TASKS[task]
    paper = build(name, objective={"kl_coef": 1e-3} if name == "grpo" else None)
    assert algorithm == paper.opened(vocab_size=151669, max_response_tokens=6192)
    equal_config, equal = opened(model, task, *equal_budget(name))
    assert equal == dataclasses.replace(algorithm, expansion=equal.expansion)
    assert equal_config.train.max_tokens == 200_000_000 and config.train.max_tokens is None
    assert algorithm.expansion.leaves == (22 if name == "at2po" else 16) and equal.expansion.leaves == 22


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_one_component(name: str) -> None:
    config, algorithm = opened("qwen3-4b", "multi-hop", name)
    assert algorithm == dataclasses.replace(opened(*BASE)[1], **ABLATIONS[name])
    assert algorithm.expansion.leaves == 22
    assert config == dataclasses.replace(load_config([*BASE, name]), name=config.name)


@pytest.mark.parametrize(("first", "last"), list(pairwise([*ALGORITHMS, "at2po", "at2po"])))
def test_of_two_algorithms_the_later_one_is_whole(first: str, last: str) -> None:
    both = load_config(["qwen3-4b", "multi-hop", equal_budget(first)[0], last])
    assert both.algorithm == opened("qwen3-4b", "multi-hop", last)[0].algorithm


def test_the_shared_settings_are_the_papers() -> None:
    config, _ = opened("qwen3-8b", "single-hop", "dapo")
    rollout, update = config.rollout, config.update
    assert (rollout.questions, rollout.temperature, update.mini_batch) == (64, 1.0, 8)
    assert (rollout.max_prompt_tokens, rollout.max_response_tokens) == (2000, 6192)
    assert (update.lr, update.weight_decay, update.grad_clip, update.schedule) == (1e-6, 0.01, 1.0, "constant")
    assert (config.policy.dtype, update.precision, config.engine.kind) == ("float32", "bfloat16", "sglang")
    assert (config.env.kwargs["k"], config.env.kwargs["max_searches"], config.train.steps) == (3, 6, 240)


def test_search_models_and_tokens_are_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AT2PO_SEARCH", "embedded:wiki")
    monkeypatch.setenv("AT2PO_MODELS", "elsewhere")
    monkeypatch.setenv("AT2PO_TOKENS", "1000000")
    config = load_config(["qwen3-4b", "single-hop", "gspo-22", "equal-budget"])
    assert config.env.kwargs["search"] == "embedded:wiki" and config.policy.path == "elsewhere/Qwen3-4B"
    assert config.train.max_tokens == 1_000_000


def test_the_untrained_rows_are_judged_with_the_limits_of_the_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = commands("eval")
    assert [words[3].removeprefix("models/") for words in lines] == list(MODELS.values())
    for words in lines:
        words[3] = "builtin:microwiki"  # the models are not here
        assert main(["eval", *words, "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("- single-hop") == 3 and printed.count("max_searches: 6") == 3
    run = opened(*BASE)[0]
    assert f"max_response_tokens: {run.rollout.max_response_tokens}" in printed
