"""Log-probabilities of what was sampled: packed, each tree token once, and unrolled, the plain reference.

Both give ``log softmax(logits / T)`` at the rollout's temperature ``T`` and the entropy of the same distribution.
Logits exist at positions that predict an action token only, and never all at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from at2po_agent.method.tree import ROOT, TurnTree
from at2po_agent.policy.base import PolicyError
from at2po_agent.update.packing import MicroBatch
from at2po_agent.update.trainable import refuse_partial_attention, scaled_logits
from at2po_agent.update.tree_attention import TREE_OR_SDPA, Layout, block_planner

MAX_LOGITS = 2**25  # elements of a [chunk, vocab] block: 128 MiB in float32


def prepare_model(model: PreTrainedModel) -> None:
    """Let a model's layers attend along trees, or refuse one that this would make silently wrong.

    From then on it takes the argument ``tree``; without it the model computes what it did before.

    Raises:
        PolicyError: attention other than ``sdpa``, layers without full attention, or an output layer that is not the
            whole way from hidden state to logits.
    """
    name, config = type(model).__name__, model.config.get_text_config()
    used = model.config._attn_implementation
    if used not in ("sdpa", TREE_OR_SDPA):
        raise PolicyError(
            f"packed training of {name} needs attn_implementation='sdpa', not {used!r}: load it with that"
        )
    refuse_partial_attention(config, name)
    refuse_dropout(model)
    probe = torch.arange(4, device=model.device)[None] % config.vocab_size
    with torch.no_grad():
        expected = model(input_ids=probe, use_cache=False).logits
        hidden = model.base_model(input_ids=probe, use_cache=False).last_hidden_state
        given = model.get_output_embeddings()(hidden)
    if not torch.allclose(expected.float(), given.float(), rtol=1e-3, atol=1e-4):
        raise scaled_logits(name)
    model.set_attn_implementation(TREE_OR_SDPA)


def refuse_dropout(model: PreTrainedModel) -> None:
    """A model in training mode whose attention would drop tokens at random cannot be trained on what it sampled.

    Raises:
        PolicyError: ``model`` is one.
    """
    if model.training and getattr(model.config.get_text_config(), "attention_dropout", 0.0):
        raise PolicyError(
            f"{type(model).__name__} would drop attention at random: call model.eval() or set attention_dropout=0"
        )


class PackedPolicy(torch.nn.Module):
    """A policy as one module from a micro-batch to its unrolled rows: all of the forward is inside of it."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        prepare_model(model)
        self.model = model

    def forward(self, batch: MicroBatch, temperature: float, tree: Layout) -> tuple[Tensor, Tensor]:
        """``logp [R]`` with gradient where enabled and ``entropy [R]`` without; see ``packed``."""
        logp, entropy = packed(self.model, batch, temperature, tree)
        # index_select, because on many threads its backward is deterministic and that of logp[rows] is not
        return logp.index_select(0, batch.rows), entropy.index_select(0, batch.rows)


def packed(
    model: PreTrainedModel, batch: MicroBatch, temperature: float, tree: Layout | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probability and entropy of every action token of a micro-batch, each tree token forwarded once.

    Args:
        model: a causal language model that ``prepare_model`` prepared.
        batch: on the model's device.
        temperature: of the rollout; the distribution is ``softmax(logits / temperature)``.
        tree: how the batch's tokens attend; default: in blocks over ``sdpa``.

    Returns:
        ``logp [A]`` with gradient where enabled and ``entropy [A]`` without, nats; index both with ``batch.rows``.
    """
    hidden = model.base_model(
        input_ids=batch.ids[None],
        # transformers passes a mask of four dimensions on as it is
        attention_mask=torch.ones(1, 1, 1, 1, device=model.device),
        position_ids=batch.positions[None],
        use_cache=False,
        tree=tree or block_planner(model)(batch),
    ).last_hidden_state[0]
    # An embedding look-up, because its backward is deterministic on many threads and that of x[index] is not.
    hidden = functional.embedding(batch.predictors, hidden)
    return token_logprobs(model.get_output_embeddings(), hidden, batch.targets, temperature)


def token_logprobs(
    head: torch.nn.Module, hidden: Tensor, targets: Tensor, temperature: float, max_logits: int = MAX_LOGITS
) -> tuple[Tensor, Tensor]:
    """``log softmax(head(hidden) / temperature)[targets]`` and the entropies, in blocks of at most ``max_logits``.

    With more than one block, a block's logits are computed again in the backward instead of being kept.

    Args:
        head: hidden state to logits.
        hidden: ``[A, D]``.
        targets: ``[A]`` ids.
        temperature: greater than 0.
        max_logits: elements of one ``[chunk, vocab]`` block.
    """
    weight = head.weight
    assert isinstance(weight, Tensor)
    chunk = max(1, max_logits // weight.shape[0])
    block = partial(_block, head, temperature)
    if len(targets) <= chunk:
        return block(hidden, targets)
    found = [
        checkpoint(block, h, t, use_reentrant=False)
        for h, t in zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True)
    ]
    return torch.cat([logp for logp, _ in found]), torch.cat([entropy for _, entropy in found])


def _block(head: torch.nn.Module, temperature: float, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return _select(head(hidden), targets, temperature)


def _select(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    log_p = functional.log_softmax(logits if temperature == 1.0 else logits / temperature, dim=-1)
    with torch.no_grad():
        entropy = -(log_p.exp() * log_p).sum(-1)
    return log_p.gather(1, targets[:, None])[:, 0], entropy


def unrolled(model: PreTrainedModel, trees: Sequence[TurnTree], temperature: float) -> tuple[Tensor, Tensor]:
    """The reference: every root-to-leaf path forwarded on its own by the plain causal model, padded on the right.

    Returns:
        ``logp [R]`` with gradient where enabled and ``entropy [R]`` without, nats, over all (leaf, position) in the
        order of the packed rows of the same trees.
    """
    paths = [_path(tree, path) for tree in trees for _, path in tree.trajectories()]
    length = max(len(ids) for ids, _ in paths)
    ids = torch.tensor([row + [0] * (length - len(row)) for row, _ in paths], device=model.device)
    sampled = torch.tensor([row + [False] * (length - len(row)) for _, row in paths], device=model.device)[:, 1:]
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits[sampled]
    return _select(logits, ids[:, 1:][sampled], temperature)


def _path(tree: TurnTree, path: Sequence[int]) -> tuple[list[int], list[bool]]:
    """Ids of one trajectory, prompt included, and which of them the policy sampled."""
    ids = list(tree[ROOT].observation)
    sampled = [False] * len(ids)
    for node in (tree[index] for index in path):
        ids += (*node.action, *node.observation)
        sampled += [True] * len(node.action) + [False] * len(node.observation)
    return ids, sampled
