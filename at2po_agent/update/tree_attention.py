"""Attention over packed trees, in which a token sees the tokens of its own path: the seam between models and kernels.

Packed tokens stand in depth-first order, and token ``i`` sees token ``j`` if ``j ≤ i < ends[j]``. Two layouts compute
that: FlexAttention on CUDA (``attention_flex``) and blocks over ``sdpa`` everywhere (``attention_blocks``).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from at2po_agent.policy.architecture import Heads
from at2po_agent.policy.base import PolicyError
from at2po_agent.update.attention_blocks import plan_blocks
from at2po_agent.update.attention_flex import SMALLEST_HEAD, FlexPlanner
from at2po_agent.update.packing import MicroBatch
from at2po_agent.update.schedule import UpdateConfig

TREE_OR_SDPA = "tree_or_sdpa"  # in transformers' registry of attention functions


class Layout(Protocol):
    """The attention layout of the ``N`` packed tokens of a micro-batch."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Attention of every token to its own path, ``[1, N, heads, head_dim]``; arguments of ``tree_attention``."""
        ...


Planner = Callable[[MicroBatch], Layout]


def block_planner(model: PreTrainedModel) -> Planner:
    """Plan blocks over ``sdpa`` for micro-batches of ``model``."""

    def plan(batch: MicroBatch) -> Layout:
        positions, ends = (states.cpu().numpy() for states in (batch.positions, batch.ends))
        return plan_blocks(positions, ends, model.dtype, batch.ids.device)

    return plan


def planner_of(
    model: PreTrainedModel, config: UpdateConfig, device: torch.device, note: Callable[[str], None]
) -> Planner:
    """Choose the kernel that ``config.attention`` names, or for ``auto`` the faster one of those that ``device`` has.

    Args:
        model: what is forwarded.
        config: of the update.
        device: where it is forwarded.
        note: told how long kernels take to compile.

    Raises:
        PolicyError: ``config.attention`` is ``flex`` and the device, the installation or the model has no way to it.
    """
    heads = Heads.of(model.config)
    missing = _missing_for_flex(heads, device)
    if config.attention == "flex" and missing:
        raise PolicyError(f"update.attention=flex needs {missing}: set update.attention=blocks")
    if config.attention == "blocks" or missing:
        if device.type == "cuda" and missing:
            note(f"attention along trees runs over sdpa, which is slow on a GPU: FlexAttention needs {missing}")
        return block_planner(model)
    return FlexPlanner(heads, model.dtype, config.max_tokens, note)


def _missing_for_flex(heads: Heads, device: torch.device) -> str:
    """The reason why FlexAttention cannot be used; None where it can."""
    if device.type != "cuda":
        return "a GPU, as it has no backward on CPUs"
    if find_spec("triton") is None:
        return "Triton, which is not installed (pip install triton)"
    return f"heads of {SMALLEST_HEAD} or more, not {heads.size}" if heads.size < SMALLEST_HEAD else ""


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    tree: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention by ``tree`` where the model was called with one, and transformers' own ``sdpa`` where not.

    Args:
        module: the attention layer.
        query: ``[1, heads, N, head_dim]`` of the packed tokens.
        key: ``[1, key heads, N, head_dim]``.
        value: likewise.
        attention_mask: for ``sdpa``.
        scaling: of the scores; default ``head_dim ** −0.5``.
        tree: how the packed tokens attend.
        kwargs: for ``sdpa``.

    Returns:
        ``[1, N, heads, head_dim]``, and no attention weights.
    """
    # The parameters are those with which transformers calls every attention function.
    if tree is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        return output, None
    return tree.attend(query, key, value, scaling), None


AttentionInterface.register(TREE_OR_SDPA, tree_attention)
AttentionMaskInterface.register(TREE_OR_SDPA, sdpa_mask)
