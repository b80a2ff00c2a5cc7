"""Upper bounds of a step, by hand."""

from __future__ import annotations

import pytest

from at2po_agent.planning.step_size import StepSize, step_size
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import load_config

WORLD = ["policy.path=builtin:microwiki", "env.id=at2po_env:AT2PO-MicroWiki-v0", "rollout.questions=4"]
LIMITS = ["rollout.max_prompt_tokens=100", "rollout.max_response_tokens=300", "rollout.max_turn_tokens=50"]


def of(*overrides: str, positions: int = 10_000) -> StepSize:
    return step_size(load_config(None, [*WORLD, *LIMITS, *overrides]), positions)


def test_the_bounds_are_products_of_the_limits() -> None:
    step = of("env.kwargs={max_searches: 2}")
    assert (step.trees, step.leaves, step.turns) == (4, 22, 4)  # two searches, the notice, the answer
    assert (step.path, step.generated_path) == (400, 200)  # four turns of 50, less than the response may have
    assert (step.tree, step.generated) == (100 + 22 * 300, 4 * 22 * 200)
    assert of("env.kwargs={max_turns: 3}").turns == 3 and of().turns == 8
    assert of("rollout.max_turn_tokens=290").generated_path == 300


def test_no_path_is_longer_than_the_models_context() -> None:
    step = of(positions=250)
    assert (step.path, step.response, step.tree) == (250, 250, 250 + 21 * 250)


@pytest.mark.parametrize(
    ("algorithm", "leaves"),
    [
        ("{name: grpo}", 16),
        ("{name: tree_grpo, expansion: {leaves: 9}}", 9),
        ("{name: aepo, expansion: {chains: 2, leaves: 5}}", 5),
        ("{name: at2po, expansion: {name: random, chains: 3, per_round: 2, rounds: 2}}", 7),
    ],
)
def test_every_expansion_says_its_leaves(algorithm: str, leaves: int) -> None:
    assert of(f"algorithm={algorithm}").leaves == leaves


def test_dynamic_sampling_may_draw_more_questions_than_it_trains_on() -> None:
    step = of("algorithm={name: dapo, groups: {max_batches: 3}}")
    assert (step.trees, step.trained, step.generated) == (12, 4, 12 * 16 * 300)


def test_an_unknown_environment_is_an_error_in_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"env\.id.*AT2PO-NoWiki"):
        of("env.id=AT2PO-NoWiki-v0")
