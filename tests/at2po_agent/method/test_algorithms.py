"""Algorithms: the paper's compositions, swapped components, misspelled settings, and all from tree to gradient."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from at2po_agent.method.algorithms import ALGORITHMS, Algorithm, build
from at2po_agent.method.credit import LeafCredit, TreeGRPOCredit, TurnCredit
from at2po_agent.method.expansion import Chains, EntropyGuided, RandomExpansion
from at2po_agent.method.expansion_rivals import EntropyBalanced, TreeGRPOExpansion
from at2po_agent.method.groups import AllGroups, DynamicSampling
from at2po_agent.method.objective import AEPO, ATPO, GSPO, LossInputs, TokenClip
from at2po_agent.method.shaping import OverlongPenalty
from at2po_agent.policy.base import Completion, Request, Sampling
from at2po_agent.rollouts.grow import Actor, grow
from at2po_agent.settings import ConfigError
from at2po_agent.update.packing import pack_tree
from tests.helpers.toys import Bytes, Scripted, ToyEnv

Z = LeafCredit(std="unbiased")

PAPER = {  # the settings of each paper or its official code
    "at2po": (EntropyGuided(10, 6, 2, 0.05), TurnCredit("child_softmax", "node_value"), ATPO(3e-3, 4e-3)),
    "grpo": (Chains(16), Z, TokenClip(0.2, 0.2, 3.0, "token_mean", 0.0)),
    "dapo": (Chains(16), Z, TokenClip(0.2, 0.28, 3.0, "token_mean", 0.0), DynamicSampling(), OverlongPenalty()),
    "gspo": (Chains(16), Z, GSPO(3e-4, 4e-4)),
    "aepo": (EntropyBalanced(chains=8, leaves=16), Z, AEPO(0.2, 0.2, 3.0, 0.2)),
    "tree_grpo": (TreeGRPOExpansion(2, 2, 16), TreeGRPOCredit(), TokenClip(0.2, 0.2, None, "token_mean", 1e-3)),
}


def test_every_algorithm_has_the_papers_settings() -> None:
    assert {name: build(name) for name in ALGORITHMS} == {
        name: Algorithm(name, *parts) for name, parts in PAPER.items()
    }


@pytest.mark.parametrize(
    ("changes", "part", "expected"),
    [
        ({"expansion": {"name": "chains", "n": 22}}, "expansion", Chains(22)),
        ({"expansion": {"name": "random"}}, "expansion", RandomExpansion(10, 6, 2)),
        ({"credit": {"name": "leaf"}}, "credit", LeafCredit(std="population")),
        ({"objective": {"name": "gspo"}}, "objective", GSPO()),
        ({"objective": {"name": "token_clip", "dual_clip": None}}, "objective", TokenClip(dual_clip=None)),
    ],
)
def test_the_papers_ablations_change_one_component(changes: dict[str, Any], part: str, expected: object) -> None:
    assert build("at2po", **changes) == replace(build("at2po"), **{part: expected})


def test_settings_lie_over_the_algorithms_own() -> None:
    changed = build("tree_grpo", {"leaves": 10}, objective={"name": "token_clip", "eps_high": 0.28})
    assert changed.expansion == TreeGRPOExpansion(leaves=10)
    assert changed.objective == TokenClip(0.2, 0.28, None, kl_coef=1e-3)


def test_another_component_comes_with_its_own_defaults() -> None:
    assert build("dapo", groups={"name": "all"}).groups == AllGroups()
    assert build("at2po", groups={"name": "dynamic"}).groups == DynamicSampling()
    assert build("grpo", credit={"name": "turn"}).credit == TurnCredit()
    assert build("tree_grpo", objective={"name": "gspo"}).objective == GSPO(kl_coef=0.0)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("at3po", {}, r"algorithm\.name: there is no 'at3po'; did you mean at2po\? known: at2po, grpo"),
        ("at2po", {"credit": {"name": "turns"}}, r"algorithm\.credit\.name: there is no 'turns'; did you mean turn\?"),
        ("at2po", {"objective": {"name": None}}, r"algorithm\.objective\.name: there is no None"),
        ("at2po", {"expansion": {"alhpa": 1}}, r"algorithm\.expansion\.alhpa: 'entropy' has .* did you mean alpha\?"),
        ("at2po", {"expansion": {"chains": "many"}}, r"algorithm\.expansion\.chains: Value 'many'"),
        ("at2po", {"expansion": {"chains": 1.5}}, r"algorithm\.expansion\.chains: Value '1\.5'"),
        ("at2po", {"credit": {"value": "max"}}, r"algorithm\.credit\.value: .*'max'.*'child_mean'"),
        ("at2po", {"objective": {"eps_low": -0.1}}, r"algorithm\.objective: eps_low is -0\.1"),
        (
            "grpo",
            {"objective": {"uses_entropy": True}},
            r"algorithm\.objective\.uses_entropy: 'token_clip' has no such",
        ),
        ("dapo", {"groups": {"max_batches": 0}}, r"algorithm\.groups: max_batches is 0"),
        ("grpo", {"shaping": {"name": "overlong", "cache": 0}}, r"algorithm\.shaping: cache is 0"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_its_key(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **changes)


class ScriptedWithTop(Scripted):
    """Also reports the two most likely tokens, where it is asked to."""

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        completions = await super().generate(requests, sampling)
        if not sampling.top_logprobs:
            return completions
        return [replace(c, top_logprobs=tuple(((0, p), (1, -0.5)) for p in c.logprobs)) for c in completions]


def test_what_a_run_decides_is_filled_in_where_it_is_left_open() -> None:
    facts = {"vocab_size": 720, "max_response_tokens": 1000}
    assert build("aepo").opened(**facts).expansion == EntropyBalanced(vocab_size=720)
    assert build("aepo", {"vocab_size": 9}).opened(**facts).expansion == EntropyBalanced(vocab_size=9)
    assert build("dapo").opened(**facts).shaping == OverlongPenalty(max_response_tokens=1000)
    assert build("at2po").opened(**facts) == build("at2po")
    with pytest.raises(ConfigError, match=r"algorithm\.shaping: cache is 1001, more than the 1000 tokens"):
        build("dapo", shaping={"cache": 1001}).opened(**facts)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_goes_from_a_grown_tree_to_a_gradient(name: str) -> None:
    algorithm = build(name).opened(vocab_size=256, max_response_tokens=1000)
    env = ToyEnv()
    env.reset(options={"question_id": "q"})
    tree = asyncio.run(grow(env, Actor(ScriptedWithTop(), Bytes()), algorithm.expansion, key=(3,)))
    assert len(tree.leaves) == (22 if algorithm.name == "at2po" else 16)
    rewards = algorithm.shaping(tree)
    assert len(set(rewards.values())) > 1
    rows = pack_tree(tree, algorithm.credit(tree, rewards))
    logp_old = torch.tensor(rows.logp_old)
    logp = logp_old.clone().requires_grad_()
    outputs = algorithm.objective(
        LossInputs(
            logp,
            logp_old,
            torch.tensor(rows.advantage),
            torch.tensor(rows.sequence_ids),
            torch.tensor(rows.turn_ids),
            rows.n_sequences,
            rows.n_tokens,
            entropy=-logp_old,
            entropy_mean=float(-logp_old.mean()),
            entropy_std=float(logp_old.std()),
            logp_ref=logp_old if algorithm.objective.kl_coef else None,
        )
    )
    (gradient,) = torch.autograd.grad(outputs.loss, logp)
    assert outputs.metrics["ppo_kl"] == 0 and outputs.metrics["ratio_max"] == 1
    # every row is pushed up or down as its own advantage says (AEPO's weight stays positive here)
    assert torch.equal(gradient.sign(), -torch.tensor(rows.advantage).sign())
    assert gradient.any()
