"""slime (THUDM's, not the package of that name on PyPI): its custom functions, by the signatures that it publishes.

https://github.com/THUDM/slime/blob/main/docs/en/get_started/customization.md. It is on no package index, so this is
tested against those signatures and not against the package. In a module of your own::

    generate = TreeGenerate(env, actor, at2po.build("at2po"))

    --custom-generate-function-path my_module.generate
    --custom-advantage-function-path at2po_agent.integrations.slime.turn_advantages
    --loss-type custom_loss
    --custom-loss-function-path at2po_agent.integrations.slime.turn_level_loss
    --n-samples-per-prompt 1 --eps-clip 3e-3 --eps-clip-high 4e-3

A tree is one rollout of slime, its leaves are the siblings that this rollout returns. slime averages over all generated
tokens of a rollout; advantages are scaled so that this is AT²PO's mean over each trajectory and then over trajectories.
"""

from __future__ import annotations

import copy
from argparse import Namespace
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from at2po_agent.integrations.loss import token_losses
from at2po_agent.method.objective import ATPO
from at2po_agent.method.tree import ROOT, TurnTree

if TYPE_CHECKING:
    from slime.utils.types import Sample

    from at2po_agent.method.algorithms import Algorithm
    from at2po_agent.rollouts.grow import Actor
    from at2po_env.tasks import TaskEnv

ADVANTAGES = "at2po_advantages"


class TreeGenerate:
    """Grow a tree for a sample and return its leaves, a custom generate function of slime.

    Args:
        env: the tasks; the sample's ``metadata["task_id"]`` names one of them.
        actor: samples the turns, at the servers that slime keeps up to date; slime's own sampling parameters are not
            read.
        algorithm: its expansion and credit are used.
    """

    def __init__(self, env: TaskEnv[Any], actor: Actor, algorithm: Algorithm) -> None:
        self._env, self._actor, self._algorithm = env, actor, algorithm

    async def __call__(self, args: Namespace, sample: Sample, sampling_params: Mapping[str, Any]) -> list[Sample]:
        """The siblings of one rollout, credited."""
        # Here, as slime's trainer loads this module too, in an environment that need not have what rollouts need.
        from at2po_agent.rollouts.grow import grow

        env = self._env.clone()
        task_id = sample.metadata["task_id"]
        env.reset(options={"task_id": task_id})
        key = (int(getattr(args, "seed", 0)), int(sample.index or 0))
        tree = await grow(env, self._actor, self._algorithm.expansion, key=key, question_id=task_id)
        tree.prune()
        credited = self._algorithm.credit(tree, self._algorithm.shaping(tree))
        return siblings(sample, tree, credited, self._actor.codec.decode_action)


def siblings(
    sample: Sample, tree: TurnTree, advantages: list[list[float]], decode: Callable[[tuple[int, ...]], str]
) -> list[Sample]:
    """A credited tree's leaves as samples of one rollout: tokens, mask, log-probabilities, reward and advantages."""
    lengths = [sum(len(tree[n].action) for n in path) for _, path in tree.trajectories()]
    samples = []
    for (leaf, path), values, length in zip(tree.trajectories(), advantages, lengths, strict=True):
        weight = sum(lengths) / (len(lengths) * length)
        ids: list[int] = []
        mask: list[int] = []
        logp: list[float] = []
        credited: list[float] = []
        for n, value in zip(path, values, strict=True):
            action, observation = tree[n].action, tree[n].observation
            ids += [*action, *observation]
            mask += [1] * len(action) + [0] * len(observation)
            logp += [*tree[n].logp, *[0.0] * len(observation)]
            credited += [weight * value] * len(action) + [0.0] * len(observation)
        sibling = copy.copy(sample)
        sibling.tokens, sibling.response = [*tree[ROOT].observation, *ids], decode(tuple(ids))
        sibling.response_length, sibling.loss_mask, sibling.rollout_log_probs = len(ids), mask, logp
        sibling.reward, sibling.status = tree[leaf].reward, type(sample).Status.COMPLETED
        sibling.rollout_id = sample.index if sample.rollout_id is None else sample.rollout_id
        sibling.train_metadata = {**(sample.train_metadata or {}), ADVANTAGES: credited}
        samples.append(sibling)
    return samples


def turn_advantages(args: Namespace, rollout_data: MutableMapping[str, Any]) -> None:
    """Hand on the advantages that ``siblings`` computed, a custom advantage function of slime.

    Raises:
        KeyError: a sample has none; its generate function was another one.
    """
    advantages = [
        torch.tensor(metadata[ADVANTAGES], dtype=torch.float32, device=mask.device)
        for metadata, mask in zip(rollout_data["metadata"], rollout_data["loss_masks"], strict=True)
    ]
    rollout_data["advantages"] = rollout_data["returns"] = advantages


def turn_level_loss(
    args: Namespace, batch: Mapping[str, Any], logits: Tensor, sum_of_sample_mean: Callable[[Tensor], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """AT²PO's loss, a custom loss function of slime; without context parallelism, as a turn must be whole.

    The bounds are ``--eps-clip`` and ``--eps-clip-high``. The old log-probabilities are the rollout's with
    ``--use-rollout-logprobs``, else those that slime computed before the step.
    """
    from slime.backends.megatron_utils.loss import get_log_probs_and_entropy

    lengths = batch["response_lengths"]
    _, computed = get_log_probs_and_entropy(
        logits,
        args=args,
        unconcat_tokens=batch["unconcat_tokens"],
        total_lengths=batch["total_lengths"],
        response_lengths=lengths,
        with_entropy=False,
        max_seq_lens=batch.get("max_seq_lens"),
    )
    old = batch["rollout_log_probs" if args.use_rollout_logprobs else "log_probs"]
    parts = (computed["log_probs"], old, batch["advantages"], batch["loss_masks"])
    logp, logp_old, advantages, mask = (pad_sequence(list(part), batch_first=True) for part in parts)
    objective = ATPO(args.eps_clip, args.eps_clip_high)
    losses, metrics = token_losses(logp, logp_old, advantages, mask, objective=objective)
    loss = sum_of_sample_mean(torch.cat([row[:length] for row, length in zip(losses, lengths, strict=True)]))
    reported = {"loss": loss.detach(), **{name: loss.new_tensor(value) for name, value in metrics.items()}}
    return loss, reported
