"""Upper bounds on the tokens of a step, from the limits of a configuration, before anything is sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import gymnasium

from at2po_agent.environments import import_tasks
from at2po_agent.method import algorithms
from at2po_agent.method.groups import DynamicSampling
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import TrainConfig
from at2po_env.rules import Rules


@dataclass(frozen=True)
class StepSize:
    """Upper bounds of one training step."""

    trees: int  # questions, with those that dynamic sampling may draw besides
    trained: int  # of them, at most
    leaves: int  # of a tree
    turns: int  # of a path
    prompt: int  # tokens
    response: int  # tokens of a path after its prompt, observed ones too
    path: int  # tokens of both together, in the model's context
    generated_path: int  # tokens of a path that the policy sampled

    @property
    def tree(self) -> int:
        """Packed tokens of the largest tree: its paths share the prompt and nothing else."""
        return self.path + (self.leaves - 1) * self.response

    @property
    def generated(self) -> int:
        """Tokens that the policy samples in a step."""
        return self.trees * self.leaves * self.generated_path


def step_size(config: TrainConfig, positions: int) -> StepSize:
    """The bounds that a configuration sets.

    Args:
        config: of the run.
        positions: tokens that the model can read and write in all.

    Raises:
        ConfigError: the environment or the algorithm is not known.
    """
    import_tasks(config.env.imports)
    algorithm, rollout = algorithms.build(**vars(config.algorithm)), config.rollout
    response = min(rollout.max_response_tokens, positions)
    turns = _turns(config)
    batches = algorithm.groups.max_batches if isinstance(algorithm.groups, DynamicSampling) else 1
    return StepSize(
        trees=rollout.questions * batches,
        trained=rollout.questions,
        leaves=algorithm.expansion.leaves,
        turns=turns,
        prompt=min(rollout.max_prompt_tokens, positions),
        response=response,
        path=min(rollout.max_prompt_tokens + response, positions),
        generated_path=min(response, turns * rollout.max_turn_tokens),
    )


def _turns(config: TrainConfig) -> int:
    """Turns of an episode, from its arguments alone: the environment may need data that is not here."""
    module, _, name = config.env.id.rpartition(":")
    import_tasks([module] if module else [])
    try:
        spec = gymnasium.spec(name)
    except gymnasium.error.Error as error:
        raise ConfigError(f"env.id: {error}") from error
    given = {**spec.kwargs, **config.env.kwargs, **(config.env.fork if isinstance(config.env.fork, Mapping) else {})}
    turns = given.get("max_turns", spec.max_episode_steps)
    return int(given.get("max_searches", Rules.max_searches) + 2 if turns is None else turns)
