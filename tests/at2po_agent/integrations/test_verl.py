"""verl's own registries, configuration and aggregation, with the core's numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

verl = pytest.importorskip("verl")
pytestmark = pytest.mark.integration

from verl.trainer.ppo.core_algos import get_adv_estimator_fn, get_policy_loss_fn  # noqa: E402
from verl.trainer.ppo.ray_trainer import compute_advantage  # noqa: E402
from verl.workers.config import FSDPActorConfig  # noqa: E402

import at2po_agent.integrations.verl  # noqa: E402,F401
from at2po_agent.integrations import turn_credit, turn_loss  # noqa: E402
from at2po_agent.method.objective import ATPO  # noqa: E402
from tests.helpers.drawn_trees import draw, golden_trees  # noqa: E402
from tests.helpers.trajectories import padded_rows, trajectories_of  # noqa: E402


def actor_config(low=3e-3, high=4e-3, **batch):
    config = FSDPActorConfig(
        strategy="fsdp", rollout_n=1, ppo_micro_batch_size_per_gpu=1, clip_ratio_low=low, clip_ratio_high=high
    )
    config.global_batch_info.update(batch)
    return config


def called(logp, logp_old, advantages, mask, mode="seq-mean-token-mean", config=None, weights=None):
    # as verl.workers.utils.losses.ppo_loss calls it
    return get_policy_loss_fn("atpo")(
        old_log_prob=logp_old,
        log_prob=logp,
        advantages=advantages,
        response_mask=mask.to(bool),
        loss_agg_mode=mode,
        config=config or actor_config(),
        rollout_is_weights=weights,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_loss_and_its_gradient_are_the_core_s(dtype):
    batch = padded_rows(dtype=dtype).finite()
    loss, gradient = batch.loss_and_gradient(called)
    expected = batch.loss_and_gradient(turn_loss)
    tolerance = 1e-7 if dtype == torch.float64 else 1e-5  # verl divides by the length + 1e-8
    assert loss == pytest.approx(expected[0], rel=tolerance)
    torch.testing.assert_close(gradient, expected[1], rtol=tolerance, atol=0)


@pytest.mark.parametrize("bounds", [(3e-3, 4e-3), (0.3, 0.4), (1e-4, 0.4), (0.3, 1e-4)])
def test_the_bounds_are_those_of_the_configuration(bounds):
    batch = padded_rows().finite()
    loss, metrics = called(batch.logp, batch.logp_old, batch.advantages, batch.mask, config=actor_config(*bounds))
    expected, told = turn_loss(batch.logp, batch.logp_old, batch.advantages, batch.mask, objective=ATPO(*bounds))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-7)
    assert metrics["actor/pg_clipfrac"] == told["clip_fraction"]
    assert (told["clip_fraction"] > 0) == (bounds[0] < 0.3)  # no turn here rises by what the upper bound allows


def test_micro_batches_and_ranks_add_up_to_the_mini_batch():
    batch = padded_rows().finite()

    def split(logp, *rows):
        config = actor_config(dp_size=2, global_batch_size=len(logp), batch_num_tokens=int(rows[-1].sum()))
        halves = [slice(0, 1), slice(1, None)]
        # a rank's loss is multiplied by dp_size because FSDP divides gradients by it
        return (sum(called(logp[half], *(r[half] for r in rows), config=config)[0] for half in halves) / 2,)

    loss, gradient = batch.loss_and_gradient(split)
    expected = batch.loss_and_gradient(turn_loss)
    assert loss == pytest.approx(expected[0], rel=1e-7)
    torch.testing.assert_close(gradient, expected[1], rtol=1e-7, atol=0)


def test_the_other_modes_and_weights_are_verl_s():
    batch = padded_rows().finite()
    rows = (batch.logp, batch.logp_old, batch.advantages, batch.mask)
    n_tokens = int(batch.mask.sum())
    total, _ = called(*rows, mode="token-sum")
    assert called(*rows, mode="token-mean")[0] == pytest.approx(total.item() / n_tokens)
    twice, metrics = called(*rows, mode="token-mean", weights=torch.full_like(batch.logp, 2.0))
    assert twice.item() == pytest.approx(2 * total.item() / n_tokens)
    assert {"actor/pg_clipfrac", "actor/ppo_kl", "actor/turn_kl_entropy"} <= metrics.keys()


def test_the_estimator_in_verl_s_trainer():
    mask = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0], [1, 0, 1, 0]])
    scores = torch.zeros(3, 4)
    scores[:, -1] = torch.tensor([1.0, 0.0, 5.0])
    data = verl.DataProto.from_dict(
        {"token_level_rewards": scores, "response_mask": mask}, {"uid": np.array(["a", "a", "b"], dtype=object)}
    )
    advantages = compute_advantage(data, adv_estimator="at2po", config=None).batch["advantages"]
    np.testing.assert_allclose(advantages, [[1, 1, 0, 1], [-1, 0, 0, 0], [0, 0, 0, 0]], atol=1e-5)


@pytest.mark.parametrize("golden", golden_trees()[:3], ids=lambda tree: f"seed{tree['seed']}")
def test_a_trainer_that_hands_on_tokens_gets_the_tree(golden):
    tree = draw(golden["parent"], golden["entropy"])
    trajectories = trajectories_of(tree, {int(leaf): r for leaf, r in golden["reward"].items()})
    width = max(len(t.ids) for t in trajectories)
    ids, mask, logp, scores = (torch.zeros(len(trajectories), width, dtype=torch.float64) for _ in range(4))
    for i, t in enumerate(trajectories):
        n = len(t.ids)
        ids[i, :n], mask[i, :n], logp[i, :n] = (torch.tensor(v, dtype=torch.float64) for v in (t.ids, t.mask, t.logp))
        scores[i, n - 1] = t.reward
    advantages, _ = get_adv_estimator_fn("at2po")(
        token_level_rewards=scores, response_mask=mask, index=["q"] * len(ids), responses=ids.long(), old_log_probs=logp
    )
    for row, kept, expected in zip(advantages, mask.bool(), turn_credit(trajectories), strict=True):
        assert row[kept].tolist() == pytest.approx(expected)  # the turns of drawn trees have one token each


def test_verl_loads_it_by_its_own_variable():
    code = "import verl; from verl.trainer.ppo.core_algos import get_policy_loss_fn as f; print(f('atpo').__module__)"
    env = {**os.environ, "VERL_USE_EXTERNAL_MODULES": "at2po_agent.integrations.verl"}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert run.stdout.strip().endswith("at2po_agent.integrations.verl"), run.stderr


def test_the_config_lines_of_the_example_are_verl_s():
    from hydra import compose, initialize_config_module

    script = Path("examples/verl/atpo.sh").read_text().replace('"$VERL_USE_EXTERNAL_MODULES"', "module")
    lines = [line.strip(" \\") for line in script.splitlines() if line.startswith("  ") and "=" in line]
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=lines)
    assert config.actor_rollout_ref.actor.policy_loss.loss_mode == "atpo"
    assert config.algorithm.adv_estimator == "at2po"
