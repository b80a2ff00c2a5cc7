"""Turn-wise credit of trajectories that another trainer sampled: their tree first, then ``at2po_agent.method.credit``.

**The tree.** Where ``turn_ids`` are given they name its nodes. Else it is found from the token ids: trajectories of
one group share a turn if they agree on every token up to where the next turn begins, on the observation too. The last
turn of a trajectory is always a leaf of its own. So a turn that two trajectories sampled independently, token for
token the same, is one node when it is found, with the entropy that the first of them gives it, and would be two
siblings when it is given; and trajectories that share nothing make a tree of chains.

**Turns** of a trajectory are the runs of ones in its mask, so adjacent turns without an observation between them are
one turn, unless ``turn_ids`` tell them apart.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from at2po_agent.integrations.loss import runs_of
from at2po_agent.method.credit import Credit, TurnCredit
from at2po_agent.method.tree import ROOT, TurnNode, TurnTree

DEFAULT_CREDIT = TurnCredit()


@dataclass(frozen=True)
class Trajectory:
    """One trajectory of a prompt as a trainer holds it, without padding: L tokens from the prompt's first one on.

    Raises:
        ValueError: lengths differ, or no token is generated.
    """

    ids: Sequence[int]  # [L]
    mask: Sequence[int]  # [L] 1 where the policy generated the token
    logp: Sequence[float]  # [L] nats, of the policy that sampled; read inside the mask, for the entropy of turns
    reward: float
    turn_ids: Sequence[int] | None = None  # [L] node of the token's turn; the same in two trajectories: a shared turn

    def __post_init__(self) -> None:
        given = {"mask": self.mask, "logp": self.logp, "turn_ids": self.turn_ids}
        wrong = {name: len(v) for name, v in given.items() if v is not None and len(v) != len(self.ids)}
        if wrong:
            raise ValueError(f"a trajectory has {len(self.ids)} ids, but other lengths of {wrong}")
        if not any(self.mask):
            raise ValueError("a trajectory has no generated token; leave it out")


class _Turn(NamedTuple):
    start: int
    end: int  # one past its last generated token
    following: int  # where the next turn begins, or the trajectory ends


def tree_of(trajectories: Sequence[Trajectory]) -> TurnTree:
    """The tree of a group's trajectories, whose leaves stand in the order of the trajectories.

    Raises:
        ValueError: the group is empty, its prompts differ, or the given nodes make no tree.
    """
    if not trajectories:
        raise ValueError("a group without trajectories has no tree")
    prompts = [tuple(t.ids[: next(_turns(t)).start]) for t in trajectories if t.turn_ids is None]
    if len(set(prompts)) > 1:
        raise ValueError("the trajectories of a group begin with different prompts; give those of one prompt")
    tree = TurnTree(prompts[0] if prompts else ())
    nodes: dict[Hashable, int] = {}
    for index, trajectory in enumerate(trajectories):
        _insert(tree, nodes, trajectory, index)
    return tree


def turn_credit(trajectories: Sequence[Trajectory], credit: Credit = DEFAULT_CREDIT) -> list[list[float]]:
    """Advantages of a group's trajectories, by default AT²PO's: one for each turn of each, from the first turn on.

    Raises:
        ValueError: as ``tree_of``.
    """
    tree = tree_of(trajectories)
    return credit(tree, dict(zip(tree.leaves, (t.reward for t in trajectories), strict=True)))


def token_advantages(trajectories: Sequence[Trajectory], credit: Credit = DEFAULT_CREDIT) -> list[list[float]]:
    """The same for each token: one list [L] for each trajectory, 0 outside its mask.

    Raises:
        ValueError: as ``tree_of``.
    """
    spread = []
    for trajectory, of_turns in zip(trajectories, turn_credit(trajectories, credit), strict=True):
        values = [0.0] * len(trajectory.ids)
        for turn, advantage in zip(_turns(trajectory), of_turns, strict=True):
            values[turn.start : turn.end] = [advantage] * (turn.end - turn.start)
        spread.append(values)
    return spread


def padded_advantages(
    rewards: Tensor,
    mask: Tensor,
    group: Sequence[Hashable],
    ids: Tensor | None = None,
    logp: Tensor | None = None,
    credit: Credit = DEFAULT_CREDIT,
) -> Tensor:
    """Turn-wise advantages of a batch of padded rows, for estimators of other trainers.

    Args:
        rewards: [B] of the trajectories.
        mask: [B, T], not 0 where the policy generated the token.
        group: [B] which rows have the same prompt.
        ids: [B, T] token ids, prompts left out or the same in a group. Without them no trajectories share a turn:
            every row is a chain.
        logp: [B, T] nats, of the policy that sampled; needed with ``ids``.
        credit: any of ``at2po_agent.method.credit``, or your own.

    Returns:
        [B, T] advantages, 0 outside the mask and in rows without generated tokens, which no mean counts.

    Raises:
        ValueError: ``ids`` without ``logp``, or as ``tree_of``.
    """
    if ids is not None and logp is None:
        raise ValueError("finding shared turns needs logp beside ids: the entropy of a turn weights its value")
    advantages = torch.zeros(mask.shape, dtype=torch.float64)
    of_group: dict[Hashable, list[int]] = {}
    for row in mask.bool().any(1).nonzero()[:, 0].tolist():
        of_group.setdefault(group[row], []).append(row)
    # A row's runs are numbered from 0, so a stride of T keeps the nodes of different rows apart.
    own = runs_of(mask) + mask.shape[1] * torch.arange(len(mask), device=mask.device)[:, None]
    for rows in of_group.values():
        trajectories = [_row(row, rewards, mask, ids, logp, own) for row in rows]
        for row, values in zip(rows, token_advantages(trajectories, credit), strict=True):
            advantages[row, : len(values)] = torch.tensor(values, dtype=torch.float64)
    return advantages.to(rewards)


def _row(row: int, rewards: Tensor, mask: Tensor, ids: Tensor | None, logp: Tensor | None, own: Tensor) -> Trajectory:
    # Whatever follows the last generated token, an observation or padding, tells nothing of the tree.
    length = int(mask[row].nonzero()[-1]) + 1
    kept = mask[row, :length].bool().tolist()
    reward = float(rewards[row])
    if ids is None or logp is None:
        nothing = [0] * length
        return Trajectory(nothing, kept, nothing, reward, own[row, :length].tolist())
    return Trajectory(ids[row, :length].tolist(), kept, logp[row, :length].tolist(), reward)


def _turns(trajectory: Trajectory) -> Iterator[_Turn]:
    labels = [0] * len(trajectory.ids) if trajectory.turn_ids is None else trajectory.turn_ids
    keys = [(bool(kept), label if kept else 0) for kept, label in zip(trajectory.mask, labels, strict=True)]
    spans = []
    at = 0
    for (kept, _), run in groupby(keys):
        end = at + sum(1 for _ in run)
        if kept:
            spans.append((at, end))
        at = end
    for k, (start, end) in enumerate(spans):
        yield _Turn(start, end, spans[k + 1][0] if k + 1 < len(spans) else at)


def _insert(tree: TurnTree, nodes: dict[Hashable, int], trajectory: Trajectory, index: int) -> None:
    """Add what a trajectory has beyond the nodes of those before it."""
    at, turns = ROOT, list(_turns(trajectory))
    for turn in turns:
        last = turn is turns[-1]
        action = tuple(trajectory.ids[turn.start : turn.end])
        observation = () if last else tuple(trajectory.ids[turn.end : turn.following])
        key: Hashable = ("leaf", index) if last else (at, action, observation)
        if trajectory.turn_ids is not None:
            key = trajectory.turn_ids[turn.start]
        if key in nodes and (last or tree[nodes[key]].leaf or tree[nodes[key]].parent != at):
            raise ValueError(f"trajectory {index}: turn {key} stands at two places of the tree, or below a leaf")
        if key not in nodes:
            node = TurnNode(at, group=0, depth=tree[at].depth + 1, action=action, observation=observation)
            node.logp = tuple(trajectory.logp[turn.start : turn.end])
            node.group = index if at == ROOT else tree[at].group
            node.leaf, node.reward = last, trajectory.reward if last else None
            nodes[key] = tree.add(node)
        at = nodes[key]
