"""SkyRL's own registries, configuration and loss reduction, with the core's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("skyrl")
pytestmark = pytest.mark.integration

from skyrl.backends.skyrl_train.utils import ppo_utils  # noqa: E402
from skyrl.train.config import AlgorithmConfig  # noqa: E402

import at2po_agent.integrations.skyrl  # noqa: E402
from at2po_agent.integrations import turn_loss  # noqa: E402
from at2po_agent.method.objective import ATPO  # noqa: E402
from tests.helpers.trajectories import padded_rows  # noqa: E402


def config_of(low, high):
    return AlgorithmConfig(
        policy_loss_type="atpo", loss_reduction="sequence_mean", eps_clip_low=low, eps_clip_high=high
    )


CONFIG = config_of(3e-3, 4e-3)


def reduced(advantages, mask):
    # as the trainer does before it splits a mini-batch
    return ppo_utils.apply_loss_reduction_to_advantages_minibatch(
        advantages, mask, CONFIG.loss_reduction, micro_batch_size=1, max_seq_len=64
    )


def called(logp, logp_old, advantages, mask, config=CONFIG):
    # as skyrl.backends.skyrl_train.workers.worker calls it
    loss_of = ppo_utils.PolicyLossRegistry.get(config.policy_loss_type)
    return loss_of(logp, logp_old, advantages, config=config, loss_mask=mask, rollout_logprobs=None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_the_loss_and_its_gradient_are_the_core_s(dtype, micro_batches):
    batch = padded_rows(dtype=dtype).finite()

    def split(logp, logp_old, advantages, mask):
        rows = [t.chunk(micro_batches) for t in (logp, logp_old, reduced(advantages, mask), mask)]
        return (sum(called(*parts)[0] for parts in zip(*rows, strict=True)),)

    loss, gradient = batch.loss_and_gradient(split)
    expected = batch.loss_and_gradient(turn_loss)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert loss == pytest.approx(expected[0], rel=tolerance)
    torch.testing.assert_close(gradient, expected[1], rtol=tolerance, atol=0)


@pytest.mark.parametrize("bounds", [(3e-3, 4e-3), (0.3, 0.4), (1e-4, 0.4), (0.3, 1e-4)])
def test_bounds_and_metrics_are_of_the_configuration(bounds):
    batch = padded_rows().finite()
    scaled = reduced(batch.advantages, batch.mask)
    loss, metrics = called(batch.logp, batch.logp_old, scaled, batch.mask, config_of(*bounds))
    expected, told = turn_loss(batch.logp, batch.logp_old, batch.advantages, batch.mask, objective=ATPO(*bounds))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert metrics["clip_ratio"] == told["clip_fraction"]
    assert (told["clip_fraction"] > 0) == (bounds[0] < 0.3)  # no turn here rises by what the upper bound allows


def test_the_estimator_by_its_name():
    mask = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0], [1, 0, 1, 0]])
    scores = torch.zeros(3, 4)
    scores[:, -1] = torch.tensor([1.0, 0.0, 5.0])
    advantages, _ = ppo_utils.compute_advantages_and_returns(
        token_level_rewards=scores,
        response_mask=mask,
        index=np.array(["a", "a", "b"]),
        adv_estimator="at2po",
        config=CONFIG,
    )
    np.testing.assert_allclose(advantages, [[1, 1, 0, 1], [-1, 0, 0, 0], [0, 0, 0, 0]], atol=1e-5)


def test_ray_workers_get_it_by_reference():
    import cloudpickle

    stored = cloudpickle.dumps(ppo_utils.PolicyLossRegistry.get("atpo"))
    assert b"at2po_agent.integrations.skyrl" in stored
    assert ppo_utils.PolicyLossRegistry.get("atpo").__wrapped__ is at2po_agent.integrations.skyrl.policy_loss


def test_the_config_lines_of_the_example_are_skyrl_s():
    from skyrl.train.config import SkyRLTrainConfig

    from examples.skyrl import main_atpo

    lines = [word for word in main_atpo.__doc__.split() if word.startswith("trainer.")]
    algorithm = SkyRLTrainConfig.from_cli_overrides(lines).trainer.algorithm
    assert algorithm.policy_loss_type == "atpo" and algorithm.advantage_estimator == "at2po"
    assert (algorithm.eps_clip_low, algorithm.eps_clip_high) == (3e-3, 4e-3)
    assert algorithm.policy_loss_type in ppo_utils.PolicyLossRegistry.list_available()
