"""Every row of the paper's tables loads, builds its algorithm, and is the paper's except where its name says so."""

from __future__ import annotations

import dataclasses
import functools
from itertools import product
from typing import Any

import pytest

from at2po_agent.method.algorithms import ALGORITHMS, Algorithm, build
from at2po_agent.method.credit import LeafCredit, TurnCredit
from at2po_agent.method.expansion import Chains, RandomExpansion
from at2po_agent.method.objective import GSPO, TokenClip
from at2po_agent.training.config import TrainConfig, load_config
from tests.helpers.places import CONFIGS

PAPER = CONFIGS / "paper"
MODELS = {"qwen3-4b": "Qwen3-4B", "qwen3-8b": "Qwen3-8B", "qwen2.5-7b": "Qwen2.5-7B"}
TASKS = {"multi-hop": "at2po_env:AT2PO-HotpotQA-v0", "single-hop": "at2po_env:AT2PO-NQ-v0"}
ROWS = list(product(MODELS, TASKS, ALGORITHMS))

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
def opened(row: str) -> tuple[TrainConfig, Algorithm]:
    config = load_config(PAPER / f"{row}.yaml")
    return config, build(**vars(config.algorithm)).opened(vocab_size=151669, max_response_tokens=6192)


def shared(config: TrainConfig) -> tuple[object, ...]:
    """What is the same in all rows: section 5 of the paper's settings."""
    return dataclasses.astuple(
        dataclasses.replace(
            config,
            name="",
            algorithm=TrainConfig().algorithm,
            policy=TrainConfig().policy,
            env=dataclasses.replace(config.env, id=""),
        )
    )


@pytest.mark.parametrize("folder", ["main", "equal-budget"])
def test_there_is_a_row_for_every_model_task_and_algorithm(folder: str) -> None:
    assert {path.stem for path in (PAPER / folder).iterdir()} == {"_".join(row) for row in ROWS}


@pytest.mark.slow
def test_runs_do_not_share_a_folder() -> None:
    names = [load_config(path).name for path in sorted(PAPER.glob("*/*.yaml")) if path.parent.name != "base"]
    assert len(names) == len(set(names)) == 2 * len(ROWS) + len(ABLATIONS) + len(MODELS) * len(TASKS)


@pytest.mark.parametrize(("model", "task", "name"), ROWS, ids="_".join)
def test_a_row_is_what_its_name_says_with_the_shared_settings(model: str, task: str, name: str) -> None:
    config, algorithm = opened(f"main/{model}_{task}_{name}")
    assert config.policy.path.endswith(f"/{MODELS[model]}") and config.env.id == TASKS[task]
    assert shared(config) == shared(opened("main/qwen3-4b_multi-hop_at2po")[0])
    paper = build(name, objective={"kl_coef": 1e-3} if name == "grpo" else None)
    assert algorithm == paper.opened(vocab_size=151669, max_response_tokens=6192)
    equal_config, equal = opened(f"equal-budget/{model}_{task}_{name}")
    assert equal == dataclasses.replace(algorithm, expansion=equal.expansion)
    leaves_only = dataclasses.replace(equal_config, train=config.train)
    assert shared(leaves_only) == shared(config) and equal_config.policy == config.policy
    assert equal_config.train.max_tokens == 200_000_000 and config.train.max_tokens is None
    assert algorithm.expansion.leaves == (22 if name == "at2po" else 16) and equal.expansion.leaves == 22


@pytest.mark.parametrize(("model", "task"), list(product(MODELS, TASKS)), ids="_".join)
def test_a_lora_row_is_at2pos_with_adapters(model: str, task: str) -> None:
    whole, algorithm = opened(f"main/{model}_{task}_at2po")
    config, same = opened(f"lora/{model}_{task}_at2po")
    assert same == algorithm and config.policy == dataclasses.replace(whole.policy, dtype="bfloat16")
    assert (config.lora.rank, config.lora.alpha, whole.lora.rank) == (16, 32.0, 0)
    alike = {"name": whole.name, "policy": whole.policy, "lora": whole.lora}
    alike["update"] = dataclasses.replace(config.update, lr=whole.update.lr)
    assert dataclasses.replace(config, **alike) == whole


def test_the_shared_settings_are_the_papers() -> None:
    config, _ = opened("main/qwen3-8b_single-hop_dapo")
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
    opened.cache_clear()
    config, _ = opened("main/qwen3-4b_single-hop_gspo")
    assert config.env.kwargs["search"] == "embedded:wiki" and config.policy.path == "elsewhere/Qwen3-4B"
    assert opened("equal-budget/qwen3-4b_single-hop_gspo")[0].train.max_tokens == 1_000_000
    opened.cache_clear()


def test_there_is_a_row_for_every_ablation() -> None:
    assert {path.stem for path in (PAPER / "ablation").iterdir()} == set(ABLATIONS)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_one_component(name: str) -> None:
    base_config, base = opened("main/qwen3-4b_multi-hop_at2po")
    config, algorithm = opened(f"ablation/{name}")
    assert algorithm == dataclasses.replace(base, **ABLATIONS[name])
    assert dataclasses.replace(config, name="", algorithm=base_config.algorithm) == dataclasses.replace(
        base_config, name=""
    )
    assert algorithm.expansion.leaves == 22
