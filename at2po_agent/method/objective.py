"""(3) The ATPO objective with a turn-level ratio and clip, and its rivals.

AT²PO (arXiv 2601.04767, turn-wise policy optimisation; https://arxiv.org/abs/2601.04767). For turn ``k`` with generated
tokens ``T_k``, trajectory ``i`` of ``N`` with generated tokens ``y_i``, and ``sg`` the stop-gradient:

    log s_k = (1/|T_k|) Σ_{t∈T_k} (logp[t] − logp_old[t])
    s_t     = exp(min(sg[log s_k] + logp[t] − sg[logp[t]], 10))         value: the turn's; gradient: the token's own
    loss    = −(1/N) Σ_i (1/|y_i|) Σ_{t∈y_i} min(s_t A_t, clip(s_t, 1−ε_low, 1+ε_high) A_t)

Every objective sees the same flat rows, one for each generated token of each trajectory: a token that several
trajectories share has a row in each. It is told which turn and trajectory a row belongs to and searches for nothing.
Losses and metrics are divided by the totals of the whole mini-batch, so those of its micro-batches add up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from at2po_agent.method.rows import as_floats, segment_count, segment_mean, turn_kl_entropy

if TYPE_CHECKING:
    from torch import Tensor

Aggregation = Literal["token_mean", "seq_mean_token_mean"]

MAX_LOG_SEGMENT_RATIO = 10.0  # of the paper's s_t
MAX_LOG_TOKEN_RATIO = 20.0  # of verl, which every rival's code builds on: keeps exp finite, and so the gradient


@dataclass(frozen=True)
class LossInputs:
    """The rows of a micro-batch: R = Σ_i |y_i| over its S trajectories, which it holds from first to last token."""

    logp: Tensor  # [R] nats, of the current policy at the sampling temperature; carries the gradient
    logp_old: Tensor  # [R] nats, of the policy that sampled
    advantage: Tensor  # [R]
    sequence_ids: Tensor  # [R] int64, 0..S-1
    turn_ids: Tensor  # [R] int64, 0..K-1, unique over (trajectory, turn)
    n_sequences: int  # trajectories of the whole mini-batch
    n_tokens: int  # rows of the whole mini-batch
    entropy: Tensor | None = None  # [R] nats, of the current policy's token distributions
    entropy_mean: float | None = None  # of the whole mini-batch's rows
    entropy_std: float | None = None  # of the whole mini-batch's rows, unbiased
    logp_ref: Tensor | None = None  # [R] nats, of the reference policy


@dataclass(frozen=True)
class LossOutputs:
    """The micro-batch's share of the mini-batch's loss and metrics (see ``rows.merge``)."""

    loss: Tensor  # scalar
    metrics: dict[str, float]
    rows: Tensor | None = None  # [R] losses before aggregation, for trainers that aggregate themselves


class Objective(Protocol):
    """A policy-gradient loss."""

    @property
    def kl_coef(self) -> float:
        """Weight of the KL to the reference policy; where it is not 0, ``LossInputs.logp_ref`` is needed."""
        ...

    @property
    def uses_entropy(self) -> bool:
        """Whether ``LossInputs.entropy`` and its mean and std are needed."""
        ...

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        """The loss to descend."""
        ...


@dataclass(frozen=True)
class _ClippedSegmentRatio:
    """The clipped ratio of a whole segment; mean over tokens, then over trajectories."""

    eps_low: float  # the ratio is clipped below 1 − eps_low
    eps_high: float  # and above 1 + eps_high
    kl_coef: float = 0.0  # weight of the KL to the policy at the start; 0: none
    uses_entropy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_bounds(self.eps_low, self.eps_high, self.kl_coef)

    def _loss(self, inputs: LossInputs, segment_ids: Tensor) -> LossOutputs:
        ratio = segment_ratio(inputs, segment_ids)
        clipped = ratio.clamp(1 - self.eps_low, 1 + self.eps_high)
        return _outputs(inputs, ratio, clipped, "seq_mean_token_mean", None, self.kl_coef)


@dataclass(frozen=True)
class ATPO(_ClippedSegmentRatio):
    """AT²PO's objective: the geometric-mean ratio of the turn, clipped, its gradient through each token."""

    eps_low: float = 3e-3  # the ratio is clipped below 1 − eps_low
    eps_high: float = 4e-3  # and above 1 + eps_high

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        """``log s`` is the mean over the row's turn; mean over tokens, then over trajectories."""
        return self._loss(inputs, inputs.turn_ids)


@dataclass(frozen=True)
class GSPO(_ClippedSegmentRatio):
    """GSPO (arXiv 2507.18071, its token variant): ATPO's formula with the whole trajectory as one turn."""

    eps_low: float = 3e-4  # the ratio is clipped below 1 − eps_low
    eps_high: float = 4e-4  # and above 1 + eps_high

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        """``log s`` is the mean over the row's trajectory; mean over tokens, then over trajectories."""
        return self._loss(inputs, inputs.sequence_ids)


@dataclass(frozen=True)
class TokenClip:
    """PPO's clipped token ratio, as GRPO (arXiv 2402.03300), DAPO (2503.14476) and Tree-GRPO (2509.21240) use it.

    ``r = exp(logp − logp_old)``; the loss is ``max(−r A, −clip(r, 1−ε_low, 1+ε_high) A)``, and where ``A < 0`` at most
    ``−c A`` with the dual clip's ``c`` (arXiv 1912.09729, eq. 5). GRPO: 0.2 and 0.2; DAPO: 0.2 and 0.28. GRPO's paper
    aggregates by ``seq_mean_token_mean``, its code by ``token_mean``.
    """

    eps_low: float = 0.2  # the ratio is clipped below 1 − eps_low
    eps_high: float = 0.2  # and above 1 + eps_high
    dual_clip: float | None = 3.0  # c; null: none
    aggregation: Aggregation = "token_mean"  # of the losses of rows
    kl_coef: float = 0.0  # weight of the KL to the policy at the start; 0: none
    uses_entropy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_bounds(self.eps_low, self.eps_high, self.kl_coef, self.dual_clip)

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        """Every token has its own ratio."""
        ratio = token_ratio(inputs)
        clipped = ratio.clamp(1 - self.eps_low, 1 + self.eps_high)
        return _outputs(inputs, ratio, clipped, self.aggregation, self.dual_clip, self.kl_coef)


@dataclass(frozen=True)
class AEPO:
    """AEPO (arXiv 2510.14545): token clipping whose upper bound keeps its gradient, and an entropy-aware advantage.

    ``clip(r, 1−ε_low, (1+ε_high)/sg[r]·r)`` and ``A ← A·(1 + 0.2·Ĥ_t)`` with ``Ĥ`` the token's entropy standardised
    over the mini-batch's rows (a std of 0 counts as 1), detached.
    """

    eps_low: float = 0.2  # the ratio is clipped below 1 − eps_low
    eps_high: float = 0.2  # and above 1 + eps_high
    dual_clip: float | None = 3.0  # c; null: none
    entropy_weight: float = 0.2  # 0 is what the official script runs, by an oversight
    kl_coef: float = 0.0  # weight of the KL to the policy at the start; 0: none

    def __post_init__(self) -> None:
        _check_bounds(self.eps_low, self.eps_high, self.kl_coef, self.dual_clip)

    @property
    def uses_entropy(self) -> bool:
        """True unless the entropy-aware advantage is off."""
        return self.entropy_weight != 0

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        """Every token has its own ratio and its own advantage; mean over tokens."""
        import torch

        ratio = token_ratio(inputs)
        upper = 1 + self.eps_high
        clipped = torch.where(ratio > upper, upper / ratio.detach() * ratio, ratio.clamp(min=1 - self.eps_low))
        if self.uses_entropy:
            weight = 1 + self.entropy_weight * _standardised_entropy(inputs)
            inputs = replace(inputs, advantage=inputs.advantage * weight)
        return _outputs(inputs, ratio, clipped, "token_mean", self.dual_clip, self.kl_coef)


def segment_ratio(inputs: LossInputs, ids: Tensor) -> Tensor:
    """``s_t`` [R]: its value is the ratio of the row's segment, its gradient is the row's own."""
    logp = inputs.logp.detach()
    log_s = segment_mean(logp - inputs.logp_old, ids)[ids]
    return (log_s + inputs.logp - logp).clamp(max=MAX_LOG_SEGMENT_RATIO).exp()


def token_ratio(inputs: LossInputs) -> Tensor:
    """``r_t = exp(logp[t] − logp_old[t])`` [R]."""
    return (inputs.logp - inputs.logp_old).clamp(-MAX_LOG_TOKEN_RATIO, MAX_LOG_TOKEN_RATIO).exp()


def kl_to_reference(inputs: LossInputs) -> Tensor:
    """``exp(d) − d − 1`` with ``d = logp_ref − logp`` [R]: the low-variance estimator ``k3``, never negative.

    Schulman, "Approximating KL Divergence", http://joschu.net/blog/kl-approx.html; GRPO (arXiv 2402.03300), eq. 4.
    """
    if inputs.logp_ref is None:
        raise ValueError("kl_coef is not 0, so the objective needs logp_ref, the reference policy's log-probabilities")
    d = (inputs.logp_ref - inputs.logp).clamp(-MAX_LOG_TOKEN_RATIO, MAX_LOG_TOKEN_RATIO)
    return d.exp() - d - 1


def aggregate(rows: Tensor, inputs: LossInputs, how: Aggregation) -> Tensor:
    """Mean over all tokens of the mini-batch, or over each trajectory's tokens and then over its trajectories."""
    if how == "token_mean":
        return rows.sum() / inputs.n_tokens
    length = segment_count(inputs.sequence_ids)
    return (rows / length[inputs.sequence_ids]).sum() / inputs.n_sequences


def _outputs(
    inputs: LossInputs,
    ratio: Tensor,
    clipped: Tensor,
    aggregation: Aggregation,
    dual_clip: float | None,
    kl_coef: float,
) -> LossOutputs:
    """Aggregate ``max(−r A, −clipped A)`` over the rows, with dual clip and KL term where asked for; and metrics."""
    import torch

    advantage = inputs.advantage
    unclipped_loss, clipped_loss = -advantage * ratio, -advantage * clipped
    rows = torch.maximum(unclipped_loss, clipped_loss)
    sums = {"clip_fraction": (clipped_loss > unclipped_loss).sum()}
    if dual_clip is not None:
        ceiling = -dual_clip * advantage
        capped = (advantage < 0) & (rows > ceiling)
        rows = torch.where(capped, ceiling, rows)
        sums["dual_clip_fraction"] = capped.sum()
    if kl_coef:
        kl = kl_to_reference(inputs)
        rows = rows + kl_coef * kl
        sums["kl_ref"] = kl.sum()
    delta = inputs.logp.detach() - inputs.logp_old
    sums["ppo_kl"] = -delta.sum()
    metrics = {name: value.detach().double() / inputs.n_tokens for name, value in sums.items()}
    spread = turn_kl_entropy(delta, inputs.turn_ids, inputs.sequence_ids)
    metrics["turn_kl_entropy"] = spread.sum() / inputs.n_sequences
    metrics["ratio_min"], metrics["ratio_max"] = ratio.aminmax()
    return LossOutputs(aggregate(rows, inputs, aggregation), as_floats(metrics), rows)


def _standardised_entropy(inputs: LossInputs) -> Tensor:
    if inputs.entropy is None or inputs.entropy_mean is None or inputs.entropy_std is None:
        raise ValueError("AEPO's advantage needs the entropy of every row, and its mean and std over the mini-batch")
    return (inputs.entropy.detach() - inputs.entropy_mean) / (inputs.entropy_std or 1.0)


def _check_bounds(eps_low: float, eps_high: float, kl_coef: float, dual_clip: float | None = None) -> None:
    if not 0 <= eps_low < 1:
        raise ValueError(f"eps_low is {eps_low}, it must be at least 0 and below 1")
    for name, value in (("eps_high", eps_high), ("kl_coef", kl_coef)):
        if not value >= 0:
            raise ValueError(f"{name} is {value}, it must be at least 0")
    if dual_clip is not None and not dual_clip > 1:
        raise ValueError(f"dual_clip is {dual_clip}, it must be above 1, or null for none")
