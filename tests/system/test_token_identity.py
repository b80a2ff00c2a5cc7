"""Token in, token out: what the trainer sees is, id for id, what the engine was sent and sampled."""

import asyncio

import gymnasium
import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

import at2po_env  # noqa: F401
from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.method.tree import ROOT
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.local.policy import LocalPolicy
from at2po_agent.rollouts.grow import Actor, Limits, grow
from at2po_agent.update.packing import pack_tree
from tests.helpers.real_tokenizers import NAMES, load


class Recording:
    """The real engine, with what goes in and comes out written down."""

    def __init__(self, engine: LocalPolicy) -> None:
        self.engine = engine
        self.sent: dict[tuple[int, ...], set[tuple[int, ...]]] = {}

    async def generate(self, requests, sampling):
        completions = await self.engine.generate(requests, sampling)
        for request, completion in zip(requests, completions, strict=True):
            self.sent.setdefault(request.prompt, set()).add(completion.ids)
        return completions


@pytest.mark.parametrize("name", NAMES)
def test_every_trajectory_is_what_went_through_the_engine(name):
    codec = Codec(load(name))
    config = Qwen3Config(
        vocab_size=codec.vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=4096,
    )
    torch.manual_seed(0)
    engine = LocalPolicy(Qwen3ForCausalLM(config), codec)
    # A random model writes junk; the episode goes on with an error observation, so trajectories have several turns.
    env = gymnasium.make(
        "AT2PO-MicroWiki-v0", split="dev", world="tiny", on_malformed="continue", max_turns=4, dialect="tags"
    ).unwrapped
    env.reset(seed=1)
    policy = Recording(engine)
    expansion = EntropyGuided(chains=3, per_round=2, rounds=1)
    actor = Actor(policy, codec, limits=Limits(max_turn_tokens=12), deterministic=False)
    tree = asyncio.run(grow(env, actor, expansion, key=(5,)))
    engine.close()

    packed = pack_tree(tree, [[0.0] * len(path) for _, path in tree.trajectories()])
    assert tree[ROOT].observation == codec.prompt(env.observation())
    assert max(tree[leaf].depth for leaf in tree.leaves) > 1
    for number, (leaf, path) in enumerate(tree.trajectories()):
        ids = list(tree[ROOT].observation)
        for node in path:
            assert tree[node].action in policy.sent[tuple(ids)]
            ids += [*tree[node].action, *tree[node].observation]
            if node != leaf:
                assert tree[node].observation == codec.observation(tree[node].snapshot.turn.observation)
        trained = packed.targets[packed.rows[packed.sequence_ids == number]]
        assert trained.tolist() == [i for node in path for i in tree[node].action]
        assert _path_ids(packed, number)[: len(ids) - 1] == ids[:-1]


def _path_ids(packed, number: int) -> list[int]:
    """What the packed forward reads before the last action token of a trajectory: its ancestors in the trie."""
    last = packed.predictors[packed.rows[packed.sequence_ids == number][-1]]
    at = np.arange(len(packed.ids))
    return packed.ids[(at <= last) & (packed.ends > last)].tolist()
