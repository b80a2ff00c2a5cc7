"""The turn-level loss on padded rows: the numbers of the objectives, whatever stands around the generated tokens."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from at2po_agent.integrations import runs_of, token_losses, turn_loss
from at2po_agent.method.objective import AEPO, ATPO, GSPO, LossInputs, LossOutputs, TokenClip
from tests.helpers.places import GOLDEN
from tests.helpers.trajectories import PaddedRows, padded_rows

GOLDEN_CASES = json.loads((GOLDEN / "losses.json").read_text())["cases"]
OBJECTIVES: dict[str, Any] = {
    "atpo": ATPO(),
    "gspo": GSPO(),
    "grpo_token_mean": TokenClip(),
    "grpo_seq_mean_token_mean": TokenClip(aggregation="seq_mean_token_mean"),
    "dapo": TokenClip(eps_high=0.28),
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("case", GOLDEN_CASES, ids=lambda case: case["case"])
def test_the_official_losses_and_gradients(case: dict[str, Any], name: str) -> None:
    batch = PaddedRows(
        *(torch.tensor(case[key], dtype=torch.float64) for key in ("logp", "logp_old", "advantages")),
        torch.tensor(case["mask"]),
    )
    expected = case["expected"][name]
    loss, gradient = batch.loss_and_gradient(lambda *rows: turn_loss(*rows, objective=OBJECTIVES[name]))
    assert loss == pytest.approx(expected["loss"], rel=1e-7)
    np.testing.assert_allclose(gradient, expected["grad_logp"], rtol=1e-7, atol=0)


def by_objective(batch: PaddedRows, objective: Any) -> tuple[float, torch.Tensor]:
    """The same rows laid out by hand for the objective itself, one trajectory after the other."""
    logp = batch.logp.clone().requires_grad_()
    sequence_ids, turn_ids, turns = [], [], -1
    for i, row in enumerate(batch.mask.tolist()):
        for before, kept in zip([0, *row], row, strict=False):
            turns += kept and not before
            if kept:
                sequence_ids.append(i)
                turn_ids.append(turns)
    kept = batch.mask.bool()
    inputs = LossInputs(
        logp[kept],
        batch.logp_old[kept],
        batch.advantages[kept],
        torch.tensor(sequence_ids),
        torch.tensor(turn_ids),
        n_sequences=len(batch.mask),
        n_tokens=len(turn_ids),
    )
    loss = objective(inputs).loss
    (gradient,) = torch.autograd.grad(loss, logp)
    return loss.item(), gradient


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_on_both_sides_changes_no_number(name: str) -> None:
    batch, objective = padded_rows(), OBJECTIVES[name]
    expected = by_objective(batch, objective)
    loss, gradient = batch.loss_and_gradient(lambda *rows: turn_loss(*rows, objective=objective))
    assert loss == pytest.approx(expected[0], rel=1e-14)
    assert torch.equal(gradient[batch.mask == 0], torch.zeros(int((batch.mask == 0).sum()), dtype=torch.float64))
    torch.testing.assert_close(gradient, expected[1], rtol=1e-12, atol=0)


def test_losses_of_tokens_are_what_a_trainer_aggregates() -> None:
    batch = padded_rows()
    length = batch.mask.sum(1)

    def own_aggregation(*rows: torch.Tensor) -> tuple[torch.Tensor]:
        losses, _ = token_losses(*rows)
        return ((losses.sum(1) / length).mean(),)

    loss, gradient = batch.loss_and_gradient(own_aggregation)
    expected = batch.loss_and_gradient(turn_loss)
    assert loss == pytest.approx(expected[0], rel=1e-14)
    torch.testing.assert_close(gradient, expected[1], rtol=1e-12, atol=0)


def test_adjacent_turns_are_one_unless_they_are_told_apart() -> None:
    mask = torch.tensor([[1, 1, 1, 0, 1]])
    assert runs_of(mask).tolist() == [[0, 0, 0, -1, 1]]
    logp_old = torch.full((1, 5), -1.0, dtype=torch.float64)
    logp = logp_old + torch.tensor([[0.3, 0.3, -0.3, 0.0, 0.0]], dtype=torch.float64)
    ones, wide = torch.ones(1, 1, dtype=torch.float64), ATPO(eps_low=0.9, eps_high=0.9)
    merged, _ = token_losses(logp, logp_old, ones, mask, objective=wide)
    assert merged[0, :3].tolist() == pytest.approx([-np.exp(0.1)] * 3)
    apart, _ = token_losses(logp, logp_old, ones, mask, torch.tensor([[7, 7, 2, 0, 3]]), wide)
    assert apart[0].tolist() == pytest.approx([-np.exp(0.3), -np.exp(0.3), -np.exp(-0.3), 0, -1])
    # the same number in another row is another turn
    both, _ = token_losses(
        torch.cat([logp, logp_old]), torch.cat([logp_old] * 2), ones.expand(2, 1), mask.expand(2, 5),
        torch.tensor([[7, 7, 2, 0, 3]] * 2), wide,
    )  # fmt: skip
    assert both[1].tolist() == pytest.approx([-1, -1, -1, 0, -1])


def test_a_row_without_generated_tokens_is_no_trajectory() -> None:
    batch = padded_rows()
    more = PaddedRows(
        *(torch.cat([rows[:1] * 0, rows]) for rows in (batch.logp, batch.logp_old, batch.advantages)),
        torch.cat([batch.mask[:1] * 0, batch.mask]),
    )
    loss, gradient = more.loss_and_gradient(turn_loss)
    expected = batch.loss_and_gradient(turn_loss)
    assert loss == expected[0]
    assert torch.equal(gradient[1:], expected[1])
    nothing = PaddedRows(batch.logp, batch.logp_old, batch.advantages, batch.mask * 0)
    assert nothing.loss_and_gradient(turn_loss)[0] == 0
    assert nothing.loss_and_gradient(lambda *rows: (token_losses(*rows)[0].sum(),))[0] == 0


def test_what_an_objective_needs_and_nobody_gave_is_said() -> None:
    batch = padded_rows()
    rows = (batch.logp, batch.logp_old, batch.advantages, batch.mask)
    with pytest.raises(ValueError, match="entropy of every row"):
        turn_loss(*rows, objective=AEPO())
    with pytest.raises(ValueError, match="logp_ref"):
        turn_loss(*rows, objective=ATPO(kl_coef=0.1))
    with pytest.raises(ValueError, match=r"mask has the shape \[3, 2\], logp \[3, "):
        turn_loss(*rows[:3], batch.mask[:, :2])

    class Summed(TokenClip):
        def __call__(self, inputs: LossInputs) -> LossOutputs:
            return LossOutputs(inputs.logp.sum(), {})

    assert turn_loss(*rows, objective=Summed())[0] == batch.logp[batch.mask > 0].sum()
    with pytest.raises(ValueError, match="no losses of single tokens"):
        token_losses(*rows, objective=Summed())
