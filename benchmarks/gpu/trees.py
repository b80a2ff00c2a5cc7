"""Trees of turns with random ids, of the sizes that agents' episodes have."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from at2po_agent.method.tree import ROOT, TurnNode, TurnTree


@dataclass(frozen=True)
class Shape:
    """The sizes of a tree: tokens of its parts (from, to), turns of a path at most, and how it grows."""

    name: str
    prompt: int
    action: tuple[int, int]
    observation: tuple[int, int]
    depth: int
    chains: int
    branches: int = 0  # a round
    rounds: int = 0

    def scaled(self, factor: float) -> Shape:
        """The same with other lengths."""

        def scaled(lengths: tuple[int, int]) -> tuple[int, int]:
            return max(1, int(lengths[0] * factor)), max(3, int(lengths[1] * factor))

        prompt = max(2, int(self.prompt * factor))
        return replace(self, prompt=prompt, action=scaled(self.action), observation=scaled(self.observation))


SHAPES = (
    Shape("22 leaves", 400, (60, 160), (350, 600), 4, 10, 6, 2),
    Shape("22 leaves, prompt of 1,800", 1800, (40, 90), (200, 350), 3, 10, 6, 2),
    Shape("16 chains", 400, (60, 160), (350, 600), 4, 16),
)


def make_tree(shape: Shape, vocabulary: int, seed: int = 0) -> TurnTree:
    """A tree of ``shape``; a path ends after its second turn or a later one."""
    rng = np.random.default_rng(seed)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(int(i) for i in rng.integers(0, vocabulary, length))

    tree = TurnTree(ids(shape.prompt), question_id=shape.name)

    def roll(parent: int, group: int) -> None:
        while True:
            depth = tree[parent].depth + 1
            end = depth >= shape.depth or (depth > 1 and rng.random() < 0.25)
            action = ids(int(rng.integers(*shape.action, endpoint=True)))
            observation = () if end else ids(int(rng.integers(*shape.observation, endpoint=True)))
            node = TurnNode(parent, group, depth, action, (-1.0,) * len(action), observation, leaf=end)
            parent = tree.add(node)
            if end:
                return

    for group in range(shape.chains):
        roll(ROOT, group)
    for _ in range(shape.rounds):
        for pick in rng.choice(tree.inner_turns(), shape.branches):
            roll(tree[int(pick)].parent, tree[int(pick)].group)
    return tree
