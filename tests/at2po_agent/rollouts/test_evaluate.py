import asyncio

import pytest

from at2po_agent.rollouts.evaluate import EvaluationStopped, evaluate
from at2po_agent.rollouts.grow import Actor, Limits
from tests.helpers.toys import Bytes, Scripted, ToyEnv

QUESTIONS = [f"q{i}" for i in range(7)]


def run(env: ToyEnv, **kwargs):
    return asyncio.run(evaluate(env, QUESTIONS, Actor(Scripted(), Bytes(), limits=Limits(retries=0)), **kwargs))


def test_one_episode_per_question_in_order_whatever_the_batch():
    whole = run(ToyEnv(), batch=100)
    assert [episode.question_id for episode in whole.episodes] == QUESTIONS
    assert whole.errors == ()
    assert {episode.metrics["em"] for episode in whole.episodes} == {0.0, 1.0}
    assert whole.mean("em") == sum(episode.metrics["em"] for episode in whole.episodes) / len(QUESTIONS)
    seen = []
    parts = run(ToyEnv(), batch=3, on_episode=lambda episode: seen.append(episode.question_id))
    assert [episode.question_id for episode in parts.episodes] == QUESTIONS == seen


def test_infrastructure_failures_are_errors_and_not_scores_of_zero():
    found = run(ToyEnv(fail=lambda action: action.startswith("s")))
    answered = run(ToyEnv(fail=lambda action: False))
    directly = [episode for episode in answered.episodes if episode.turns == 1]
    assert [episode.question_id for episode in found.episodes] == [episode.question_id for episode in directly]
    assert set(found.errors) == set(QUESTIONS) - {episode.question_id for episode in directly}
    assert found.errors


def test_a_stop_between_batches_leaves_no_part_of_an_evaluation():
    seen, asked = [], iter([False, False, True])
    with pytest.raises(EvaluationStopped):
        run(ToyEnv(), batch=3, on_episode=lambda episode: seen.append(episode), stop=lambda: next(asked))
    assert len(seen) == 6
