"""A training run on its page: every number of a tree at the turn that it belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from at2po_agent.environments import EnvConfig
from at2po_agent.judge.view.page import Heading
from at2po_agent.judge.view.page_trees import chosen_steps, training_page, tree_view
from at2po_agent.method.tree import TurnTree
from at2po_agent.policy.loading import PolicyConfig
from at2po_agent.training.config import TrainConfig
from at2po_agent.training.metrics import Scores
from at2po_agent.training.run_dir import RunDirectory, RunDirError, step_of
from tests.helpers import stored_trees
from tests.helpers.stored_trees import grown

WORDS = {
    1: "prompt",
    2: "<think>a <answer>b</answer></think><search> Somon born </search>",
    3: "<result> y </result>",
    4: "<answer>Walem</answer>",
    5: "<answer>Rom</answer>",
    6: "no idea </script>",
}


def record(tree: TurnTree, **changes: object) -> dict[str, object]:
    asked = {"question": "Where was Somon born?", "answers": ["Walem"]}
    return stored_trees.record(tree, WORDS, **{**asked, **changes})


def write_training(path: Path, steps: int = 2, trees: int = 2) -> Path:
    config = TrainConfig(run_dir=str(path), env=EnvConfig(id="AT2PO-MicroWiki-v0"), policy=PolicyConfig(path="p"))
    with RunDirectory.create(config) as run:
        run.log_evaluation(0, Scores(0, ("a", "b", "c"), (0.0, 0.0, 1.0), ("", "", "")), 1.0)
        for step in range(1, steps + 1):
            run.log(step, {"reward": step / 10, "entropy": 1 / step})
            run.save_trees(step, [record(grown(f"q{step}-{n}")) for n in range(trees)])
        run.log_evaluation(steps, Scores(steps, ("a", "b"), (1.0, 0.0), ("", "")), 1.0)
        run.add_session({"python": "3"})
    return path


def test_the_numbers_of_a_tree():
    view = tree_view(record(grown()))
    assert view["prompt"] == "prompt"
    assert [(node["parent"], node["kind"], node["label"]) for node in view["nodes"][1:]] == [
        (0, "search", "Somon born"),
        (1, "answer", "Walem"),
        (1, "answer", "Rom"),
        (0, "malformed", "no idea </script>"),
    ]
    assert [node["advantage"] for node in view["nodes"]] == [
        None,
        {"low": -0.25, "mean": 0.125, "high": 0.5},
        {"low": 1.5, "mean": 1.5, "high": 1.5},
        {"low": -0.5, "mean": -0.5, "high": -0.5},
        {"low": -1.0, "mean": -1.0, "high": -1.0},
    ]
    assert [node["reward"] for node in view["nodes"][1:]] == [0.5, 1.0, 0.0, -1.0]
    assert [node["entropy"] for node in view["nodes"]] == [0.0, 0.5, 0.25, 2.0, 1.0]
    assert [node["value"] for node in view["nodes"]] == [0.0, 0.5, 1.5, -0.5, -1.0]
    assert tree_view(record(grown(), values=None))["nodes"][1]["value"] is None


def test_calls_of_other_tools_than_search_are_shown_by_their_names():
    words = {**WORDS, 2: "<think>a</think> <go>mill</go>", 6: "<leave></leave>"}
    nodes = tree_view(stored_trees.record(grown(), words, question="Find the way out.", answers=[]))["nodes"]
    assert [(nodes[n]["kind"], nodes[n]["label"]) for n in (1, 3)] == [("call", "go mill"), ("answer", "Rom")]


def test_a_run_is_shown_from_its_last_step(tmp_path):
    run = write_training(tmp_path / "run", steps=3)
    head, chunks = training_page(run, Heading("t", "s", False, []), chosen_steps(run, 100))
    assert [(row["step"], row["index"]) for row in head["trees"]] == [(3, 0), (3, 1), (2, 0), (2, 1), (1, 0), (1, 1)]
    assert all(chunks[row["chunk"]][row["at"]]["answers"] == ["Walem"] for row in head["trees"])
    assert [(chart["label"], chart["series"][0]["points"]) for chart in head["charts"]] == [
        ("Reward", [[1, 0.1], [2, 0.2], [3, 0.3]]),
        ("Entropy, nats a token", [[1, 1.0], [2, 0.5], [3, 1 / 3]]),
    ]


def test_the_charts_of_a_run(tmp_path):
    run = write_training(tmp_path / "run", steps=2)
    with RunDirectory.resume(run) as more:
        logged = {"update_ppo_kl": 0.01, "update_clip_fraction": 0.2, "update_grad_norm": 3.0}
        for step in (3, 4):
            more.log(step, {**logged, "malformed": 0.5, "turns": 2.0}, {"tokens_per_second": 100.0 * step})
        more.log_evaluation(4, Scores(4, ("a", "b"), (1.0, 1.0), ("", "")), 1.0)
    charts = training_page(run, Heading("t", "s", False, []), chosen_steps(run, 100))[0]["charts"]
    points = {chart["label"]: chart["series"][0]["points"] for chart in charts}
    held_out = points["Exact match, held out"]
    assert [(step, mean) for step, mean, _, _ in held_out] == [(0, 1 / 3), (2, 0.5), (4, 1.0)]
    assert all(0 <= low <= mean <= high <= 1 for _, mean, low, high in held_out)
    assert points["Clipped"] == [[3, 0.2], [4, 0.2]] and points["Malformed"] == [[3, 0.5], [4, 0.5]]
    assert points["Generated tokens a second"] == [[3, 300.0], [4, 400.0]]
    assert {"Gradient norm, before clipping", "Turns of an episode"} < set(points)


def test_the_gain_is_over_the_questions_that_both_evaluations_scored(tmp_path):
    run = write_training(tmp_path / "run")
    result = training_page(run, Heading("t", "s", False, []), chosen_steps(run, 100))[0]["result"]
    assert (result["label"], result["share"]) == ("Exact match, greedy", True)
    assert (result["before"], result["after"], result["gain"]["mean"], result["gain"]["n"]) == (0.0, 0.5, 0.5, 2)


def test_too_many_trees_are_thinned_evenly_and_the_last_step_stays(tmp_path):
    run = write_training(tmp_path / "run", steps=9)
    for most, steps in ((18, list(range(1, 10))), (6, [4, 7, 9]), (1, [9])):
        assert [step_of(file) for file in chosen_steps(run, most)] == steps


def test_what_cannot_be_shown(tmp_path):
    with pytest.raises(RunDirError, match="no stored trees"):
        chosen_steps(tmp_path, 10)
    run = write_training(tmp_path / "run")
    config = TrainConfig(run_dir=str(tmp_path / "x"), env=EnvConfig(id="X-v0"), policy=PolicyConfig(path="p"))
    with RunDirectory.create(config) as other:
        file = other.save_trees(1, [{"tree": {}}])
    with pytest.raises(RunDirError, match=r"step_000001\.jsonl\.zst:1: not a stored tree"):
        training_page(run, Heading("t", "s", False, []), [file])


def test_a_tool_call_is_a_search():
    called = record(grown())
    called["texts"][1]["action"] = '<tool_call>{"name": "search", "arguments": {"query": "Somon"}}</tool_call>'  # type: ignore[index]
    node = tree_view(called)["nodes"][1]
    assert (node["kind"], node["label"]) == ("search", "Somon")
