import math

from at2po_agent.method.groups import Rollout
from at2po_agent.method.tree import ROOT, Branch, TurnNode, TurnTree
from at2po_agent.rollouts.evaluate import Episode, Evaluation
from at2po_agent.training.metrics import Scores, engine_metrics, rollout_metrics, scores
from at2po_agent.update.packing import Credited
from at2po_env.state import Question
from at2po_env.tasks import Metric
from tests.helpers.env_doubles import make_env


def tree(*rewards: float) -> TurnTree:
    """One leaf of two tokens per reward, each under a search turn of one token with three observed ones."""
    grown = TurnTree(prompt=(1, 2, 3, 4))
    grown.proposals.append(tuple(Branch(ROOT, g) for g in range(len(rewards))))
    for group, reward in enumerate(rewards):
        turn = TurnNode(ROOT, group, 1, action=(5,), logp=(-0.5,), observation=(6, 7, 8))
        info = {"em": float(reward == 1), "f1": 0.5, "searches": 1}
        ended = "answer" if reward >= 0 else "malformed"
        node = grown.add(turn)
        leaf = TurnNode(node, group, 2, (9, 9), (-0.1, -0.3), leaf=True, reward=reward, ended=ended, info=info)
        grown.add(leaf)
    return grown


def test_a_step_in_numbers():
    mixed, flat, lone = tree(1.0, -1.0), tree(0.0, 0.0), tree(1.0)
    grown = Rollout(
        (mixed, flat, lone), dropped={"q9": "too long"}, lost_paths=3, questions=6, equal=(tree(0.0),), surplus=(lone,)
    )
    credited = [
        Credited(mixed, [[1.0] * 2, [-1.0] * 2]),
        Credited(flat, [[0.0] * 2] * 2),
    ]  # the third tree has a single leaf and was dropped
    found = rollout_metrics(grown, credited, [Metric("em", share=True)])
    assert found["reward"] == 0.0 and found["em"] == 0.25 and found["malformed"] == 0.25
    assert math.isclose(found["entropy"], (0.5 + 0.2) / 2)  # the mean over turns of the mean over tokens
    assert found["trees"] == 2 and found["trees_with_signal"] == 1 and found["trees_dropped"] == 1
    assert found["leaves_dropped"] == 1
    assert found["questions_dropped"] == 1 and found["paths_lost"] == 3 and found["leaves"] == 4
    assert found["unique_tokens"] == 2 * (4 + 2 * (1 + 3 + 2))
    assert found["groups_equal"] == 1 and found["groups_surplus"] == 1 and found["unused_tokens"] == 2 * 3
    assert grown.generated_tokens == 5 * 3 + 2 * 3  # of the dropped and the unused trees too: they were paid for
    assert grown.calls == 5 + 2  # the first turn of every chain


def test_a_step_without_trees_has_no_means():
    found = rollout_metrics(Rollout((), {}, 0, 0), [])
    assert found["reward"] is None and found["leaves"] == 0


def test_questions_without_a_score_are_left_out_and_counted():
    episodes = tuple(
        Episode(f"q{i}", {"em": float(i == 0), "f1": 0.5, "searches": 2}, ended="answer", turns=3, tokens=9)
        for i in (0, 2)
    )
    env = make_env(questions=[Question(f"q{i}", "?", ("a",), metadata={"hops": i + 1}) for i in range(3)])
    found = scores(7, Evaluation(episodes, errors=("q1",)), env, env.tasks)
    assert found.ids == ("q0", "q2") and found.values == (1.0, 0.0) and found.groups == ("1 hop", "3 hops")
    assert found.means == {"f1": 0.5, "searches": 2, "errors": 1}
    assert found.source == f"{env.dataset.name} {env.dataset.split}"
    assert (found.metric, found.title, found.share, found.mean) == ("em", "EM", True, 0.5)


def test_scores_that_an_earlier_version_stored_are_read() -> None:
    stored = {"step": 3, "ids": ["a", "b"], "em": [1.0, 0.0], "groups": ["", ""], "means": {"f1": 0.5}, "source": "x"}
    assert Scores.from_json(stored) == Scores(3, ("a", "b"), (1.0, 0.0), ("", ""), {"f1": 0.5}, "x")


def test_the_cached_share_is_that_of_the_step_and_only_of_engines_that_count_it():
    local = {"prompt_tokens": 900, "prefilled_tokens": 100}
    assert engine_metrics(local, local | {"prefilled_tokens": 130}) == {"prefilled_tokens": 30}
    before = local | {"sharable_tokens": 500, "shared_tokens": 100, "straddling": 1}
    after = local | {"prefilled_tokens": 110, "sharable_tokens": 700, "shared_tokens": 290, "straddling": 3}
    assert engine_metrics(before, after) == {"prefilled_tokens": 10, "cached_share": 0.95, "straddling_turns": 2}
    assert engine_metrics(after, after)["cached_share"] is None
