"""Measure the cost of keeping text instead of token ids: how often a history encodes to other ids, and the effect.

Some systems decode what the policy sampled, keep the text, and encode the whole history again for the next turn and for
the update. Byte-pair encodings are not unique: a policy may spell a word with other tokens than the encoder would, and
tokens merge across the ends of segments. What is trained on then is not what was sampled. Here paths are sampled as
always, id for id, and each is compared with what its text encodes to (the drift), under the same weights:

    log s_k = (1/|T'_k|) Σ logp[T'_k | re-encoded history] − (1/|T_k|) Σ logp[T_k | sampled history]

per turn ``k``, nats per token, which is AT²PO's turn ratio before anything was learned: exactly 0 without drift.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate

import torch
from torch import Tensor
from transformers import PreTrainedModel

from at2po_agent.method.tree import ROOT, TurnNode, TurnTree
from at2po_agent.policy.codec import Codec
from at2po_agent.update.logprobs import unrolled

PATHS = 8  # forwarded together


@dataclass(frozen=True)
class TurnDrift:
    """One sampled turn and its re-encoding."""

    turn: int  # 1 for the first of its path
    tokens: int  # sampled
    changed: int  # sampled tokens that the re-encoding does not have in this place
    drifted: bool  # its own ids differ
    history_drifted: bool  # ids of what stands before it differ
    log_ratio: float  # log s_k above
    engine_log_ratio: float  # the same with nothing re-encoded: the engine's log-probabilities against the trainer's


def measure(model: PreTrainedModel, codec: Codec, trees: Iterable[TurnTree], temperature: float) -> list[TurnDrift]:
    """The drift of every turn on every path of ``trees``, path by path.

    Args:
        model: the policy that sampled them, unchanged since.
        codec: its tokenizer.
        trees: pruned.
        temperature: of the sampling.

    A path that decodes to a turn without text cannot be compared and is left out.
    """
    chains = [_chain(tree, path) for tree in trees for _, path in tree.trajectories()]
    pairs = [(chain, again) for chain in chains if (again := reencode(codec, chain)) is not None]
    found: list[TurnDrift] = []
    for some in (pairs[i : i + PATHS] for i in range(0, len(pairs), PATHS)):
        sampled = _turn_means(model, [chain for chain, _ in some], temperature)
        encoded = _turn_means(model, [other for _, other in some], temperature)
        for (chain, other), before, after in zip(some, sampled, encoded, strict=True):
            found += _drifts(chain, other, before, after)
    return found


def reencode(codec: Codec, chain: TurnTree) -> TurnTree | None:
    """The path ``chain`` with the ids that its whole text encodes to; None where a turn has no text.

    A token belongs to the piece that it starts in, or to the turn of the policy that it reaches into.
    """
    pieces = [chain[ROOT].observation]
    for node in chain.nodes[1:]:
        pieces += [node.action, node.observation]
    texts = [codec.decode(piece) for piece in pieces]
    starts = [0, *accumulate(len(text) for text in texts)]
    ids: list[list[int]] = [[] for _ in pieces]
    for token, start, stop in codec.encode_with_spans("".join(texts)):
        first, last = bisect_right(starts, start) - 1, bisect_right(starts, max(start, stop - 1)) - 1
        actions = [piece for piece in range(first, min(last, len(pieces) - 1) + 1) if piece % 2]
        ids[actions[0] if actions else min(first, len(pieces) - 1)].append(token)
    if not all(ids[1::2]):
        return None
    other = TurnTree(ids[0], question_id=chain.question_id)
    for i, node in enumerate(chain.nodes[1:]):
        action, observation = tuple(ids[2 * i + 1]), tuple(ids[2 * i + 2])
        other.add(TurnNode(i, 0, node.depth, action, (0.0,) * len(action), observation, leaf=node.leaf))
    return other


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of ``values`` do not exceed; nan of none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else math.nan


def _chain(tree: TurnTree, path: Sequence[int]) -> TurnTree:
    """One path of a tree on its own."""
    chain = TurnTree(tree[ROOT].observation, question_id=tree.question_id)
    for depth, index in enumerate(path):
        node = tree[index]
        chain.add(TurnNode(depth, 0, depth + 1, node.action, node.logp, node.observation, leaf=node.leaf))
    return chain


def _drifts(chain: TurnTree, other: TurnTree, before: Sequence[float], after: Sequence[float]) -> list[TurnDrift]:
    found = []
    history_drifted = chain[ROOT].observation != other[ROOT].observation
    for turn, (node, again) in enumerate(zip(chain.nodes[1:], other.nodes[1:], strict=True), 1):
        drifted = node.action != again.action
        blocks = SequenceMatcher(None, node.action, again.action, autojunk=False).get_matching_blocks()
        found.append(
            TurnDrift(
                turn=turn,
                tokens=len(node.action),
                changed=len(node.action) - sum(block.size for block in blocks),
                drifted=drifted,
                history_drifted=history_drifted,
                log_ratio=after[turn - 1] - before[turn - 1],
                engine_log_ratio=before[turn - 1] - sum(node.logp) / len(node.logp),
            )
        )
        history_drifted = history_drifted or drifted or node.observation != again.observation
    return found


@torch.no_grad()
def _turn_means(model: PreTrainedModel, chains: Sequence[TurnTree], temperature: float) -> list[list[float]]:
    """The mean log-probability of every turn of every chain, nats per token."""
    lengths = [[len(node.action) for node in chain.nodes[1:]] for chain in chains]
    logp = unrolled(model, chains, temperature)[0].double()
    rows: Sequence[Tensor] = torch.split(logp, [n for turns in lengths for n in turns])
    means = iter([float(row.mean()) for row in rows])
    return [[next(means) for _ in turns] for turns in lengths]
