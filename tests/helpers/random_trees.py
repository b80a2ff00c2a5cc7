"""Random trees of turns and tiny random models, for tests of the update."""

from __future__ import annotations

import numpy as np
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from at2po_agent.method.tree import ROOT, TurnNode, TurnTree
from at2po_agent.update.packing import Credited

VOCAB = 13


def tiny(family: str = "qwen3", dtype: torch.dtype = torch.float64, seed: int = 0, **config: object) -> PreTrainedModel:
    """A random model of 2 layers with grouped queries, spread enough that a wrong mask shows."""
    kinds = {
        "qwen3": (Qwen3ForCausalLM, Qwen3Config),
        "qwen2": (Qwen2ForCausalLM, Qwen2Config),
        "llama": (LlamaForCausalLM, LlamaConfig),
    }
    model, configuration = kinds[family]
    size: dict[str, object] = {"vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    size |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "initializer_range": 0.4}
    size |= {"bos_token_id": None, "eos_token_id": None}
    torch.manual_seed(seed)
    made: PreTrainedModel = model(configuration(**(size | config)))
    for module in list(made.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__.endswith("RMSNorm"):  # theirs rounds to float32 whatever the dtype
                setattr(module, name, torch.nn.RMSNorm(len(child.weight), eps=child.variance_epsilon))
    return made.to(dtype).eval()


def random_tree(rng: np.random.Generator, chains: int = 2, branches: int = 2, vocab: int = VOCAB) -> TurnTree:
    """Chains from the root and branches under any inner turn; short turns of few ids, so that some repeat exactly."""

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(int(i) for i in rng.integers(0, vocab, rng.integers(low, high)))

    tree = TurnTree(ids(1, 5), question_id="random")

    def roll(parent: int, group: int) -> None:
        while True:
            action = ids(1, 4)
            end = tree[parent].depth == 3 or rng.random() < 0.4
            logp = tuple(float(-x) for x in rng.uniform(0.05, 3.0, len(action)))
            node = TurnNode(parent, group, tree[parent].depth + 1, action, logp, () if end else ids(0, 4), leaf=end)
            parent = tree.add(node)
            if end:
                return

    for group in range(chains):
        roll(ROOT, group)
    for _ in range(branches):
        parent = int(rng.choice([ROOT, *tree.inner_turns()]))
        roll(parent, max(0, tree[parent].group))
    return tree


def credited(rng: np.random.Generator, tree: TurnTree) -> Credited:
    """With another advantage for every (leaf, turn), of both signs: one shared token pulls both ways."""
    return Credited(tree, [[float(a) for a in rng.normal(size=len(path))] for _, path in tree.trajectories()])


def random_batch(seed: int = 0, trees: int = 3) -> list[Credited]:
    """Some credited trees."""
    rng = np.random.default_rng(seed)
    return [credited(rng, random_tree(rng)) for _ in range(trees)]
