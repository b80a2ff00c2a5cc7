"""What decides an evaluation's results is in its manifest, and a difference is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from at2po_agent.judge.config import JudgeConfig, ModelConfig
from at2po_agent.judge.results.manifest import FORMAT, changes, manifest
from at2po_agent.method.expansion import EntropyGuided
from tests.helpers.env_doubles import FakeSearch, make_env


@pytest.fixture
def config() -> JudgeConfig:
    return JudgeConfig(envs=("AT2PO-NQ-v0",), model=ModelConfig("org/m:8b", "http://h/v1"), split="demo")


def describe(config: JudgeConfig, **arguments: Any) -> dict[str, Any]:
    return manifest(config, make_env(**{"dialect": "chat", **arguments}), ["q1", "q2"], {"name": "m"})


def test_the_limits_and_questions_are_those_of_the_environment(config: JudgeConfig) -> None:
    found = describe(config, k=2, max_searches=5)
    assert (found["format"], found["env"], found["model"]) == (FORMAT, "AT2PO-NQ-v0", {"name": "m"})
    assert found["questions"] == ["q1", "q2"]
    assert (found["limits"]["k"], found["limits"]["max_searches"]) == (2, 5)
    assert found["limits"]["max_turn_tokens"] == config.limits.max_turn_tokens


def test_only_a_tree_search_has_the_shape_of_its_trees(config: JudgeConfig) -> None:
    assert "tree" not in describe(config)
    shape = EntropyGuided(chains=2, per_round=3, rounds=1)
    assert (
        describe(replace(config, tree=True, expansion=shape))["tree"].items() >= {"chains": 2, "per_round": 3}.items()
    )


def test_a_difference_says_where_it_is_and_both_sides() -> None:
    before = {"limits": {"k": 3, "same": 1}, "seed": 0, "ids": ["a"], "digest": "a" * 64}
    now = {"limits": {"k": 1, "same": 1, "new": 2}, "seed": 0, "ids": ["a", "b"], "digest": "b" * 64}
    assert changes(before, now) == [
        "limits.k: 3 → 1",
        "limits.new: none → 2",
        "ids: 1 → 2",
        f"digest: {'a' * 16}… → {'b' * 16}…",
    ]
    assert changes(before, {**before, "created": "later", "price": {"prompt": 1}, "code": {}}) == []


def test_a_manifest_changes_with_everything_that_decides_results_and_nothing_else(config):
    def described(config=config, search=None, ids=("q1", "q2"), **arguments):
        env = make_env(search=search, **{"dialect": "chat", **arguments})
        return manifest(config, env, ids, {"name": "m"})

    first = described()
    assert json.loads(json.dumps(first)) == first
    faster = replace(config, concurrency=2, cache="x", limits=replace(config.limits, retries=1, episode_seconds=5.0))
    assert changes(first, described(faster)) == []
    assert changes(first, described(replace(config, model=replace(config.model, price_prompt=1.0)))) == []
    assert first["search_at"] is None  # a backend that was passed in
    assert changes(first, first | {"search_at": "elasticsearch://another:9200/name"}) == []  # of equal digest
    other = {
        "temperature": described(replace(config, temperature=0.7)),
        "seed": described(replace(config, seed=1)),
        "samples": described(replace(config, samples=2)),
        "request.top_p": described(replace(config, request={"top_p": 0.5})),
        "max_turn_tokens": described(replace(config, limits=replace(config.limits, max_turn_tokens=9))),
        "search.corpus_digest": described(search=FakeSearch(corpus="else")),
        "limits.k": described(k=1),
        "dialect.digest": described(dialect="native"),
        "on_malformed": described(on_malformed="continue"),
        "questions: 2 → 1": described(ids=("q1",)),
        "questions: others": described(ids=("q2", "q1")),
    }
    for name, changed in other.items():
        assert any(name in text for text in changes(first, changed)), name


def test_a_manifest_names_the_candidates_of_a_tree_only_where_older_ones_cannot_mean_them(config):
    def described(**expansion):
        shape = replace(config.expansion, **expansion)
        env = make_env(dialect="chat")
        return manifest(replace(config, tree=True, expansion=shape), env, ["q1"], {"name": "m"})

    first = described()
    assert first["tree"] == {"chains": 10, "per_round": 6, "rounds": 2, "alpha": 0.05}  # as the first version wrote it
    assert changes(first, described(candidates="turns+root")) == ["tree.candidates: none → turns+root"]
    assert changes(first, described(chains=3)) == ["tree.chains: 10 → 3"]
