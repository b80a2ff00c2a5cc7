"""The example that docs/concepts.md works by hand: its scores, values, advantages, ratio and token counts."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
import torch

from at2po_agent.method.credit import TurnCredit
from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.method.objective import ATPO, LossInputs
from at2po_agent.method.tree import ROOT, Branch, TurnNode, TurnTree
from at2po_agent.update.packing import Credited, pack_tree

PROMPT, ACTION, OBSERVATION = 10, 4, 6  # tokens


class Story:
    """The tree as it grows, its nodes by their letters."""

    def __init__(self) -> None:
        self.tree = TurnTree((1,) * PROMPT, question_id="q")
        self.node: dict[str, int] = {"root": ROOT}
        self._token = count(100)

    def turn(self, letter: str, under: str, entropy: float, reward: float | None = None) -> None:
        action = tuple(next(self._token) for _ in range(ACTION))
        leaf = reward is not None
        shown = () if leaf else tuple(next(self._token) for _ in range(OBSERVATION))
        group, depth = len(self.tree.leaves), self.tree[self.node[under]].depth + 1
        turn = TurnNode(self.node[under], group, depth, action, (-entropy,) * ACTION, shown, leaf=leaf, reward=reward)
        self.node[letter] = self.tree.add(turn)


@pytest.fixture
def story() -> Story:
    story = Story()
    story.turn("a", "root", 0.2)
    story.turn("b", "a", 0.9)
    story.turn("c", "b", 0.1, reward=0.0)
    story.turn("d", "root", 0.3)
    story.turn("e", "d", 0.4)
    story.turn("f", "e", 0.1, reward=0.0)
    return story


def test_the_most_uncertain_turn_is_sampled_again(story: Story) -> None:
    expansion = EntropyGuided(chains=2, per_round=1, rounds=1, alpha=0.05)
    story.tree.proposals.append([Branch(ROOT, 0), Branch(ROOT, 1)])
    (branch,) = expansion.propose(story.tree, np.random.default_rng(0))
    assert branch.node == story.node["a"]  # from the state before b


def test_values_are_carried_from_the_leaves_to_the_root(story: Story) -> None:
    story.turn("g", "a", 0.5)
    story.turn("h", "g", 0.1, reward=1.0)
    rewards = {leaf: story.tree[leaf].reward or 0.0 for leaf in story.tree.leaves}
    credit = TurnCredit()
    values = credit.values(story.tree, rewards)
    expected = {"a": 0.144, "b": -0.707, "c": -0.707, "g": 1.414, "h": 1.414, "d": -0.707, "e": -0.707, "f": -0.707}
    assert {letter: round(float(values[story.node[letter]]), 3) for letter in expected} == expected
    packed = pack_tree(*Credited(story.tree, credit(story.tree, rewards)))
    # The last token of a path is predicted and never read.
    assert len(packed.ids) + len(rewards) == 72
    paths = [path for _, path in story.tree.trajectories()]
    nodes = [[story.tree[turn] for turn in path] for path in paths]
    assert sum(PROMPT + sum(len(n.action) + len(n.observation) for n in path) for path in nodes) == 102


def test_the_turns_ratio_is_between_its_tokens_and_not_clipped() -> None:
    logp = torch.tensor([0.010, -0.004], requires_grad=True)
    zeros = torch.zeros(2, dtype=torch.int64)
    inputs = LossInputs(logp, torch.zeros(2), torch.ones(2), zeros, zeros, n_sequences=1, n_tokens=2)
    outputs = ATPO()(inputs)
    assert float(outputs.loss.detach()) == pytest.approx(-np.exp(0.003))
    outputs.loss.backward()
    assert logp.grad is not None and (logp.grad < 0).all()  # neither token is clipped
