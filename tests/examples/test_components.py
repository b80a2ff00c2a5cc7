"""The examples of components of one's own: checked as configurations, alone, and all together in a training run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search_backend
from at2po_agent.environments import EnvConfig, make_env
from at2po_agent.method.algorithms import Algorithm, AlgorithmConfig, build
from at2po_agent.method.groups import Rollout
from at2po_agent.method.tree import ROOT, Branch, TurnNode, TurnTree
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import load_config
from at2po_agent.training.run_dir import RunDirectory
from at2po_agent.training.trainer import train
from at2po_agent.training.validation import validate
from at2po_agent.warmstart.run import WarmStartConfig, teacher_of
from at2po_env.rules import Rules
from at2po_env.scoring import judge
from at2po_env.scripts import play
from at2po_env.state import Question
from at2po_env.tool_rules import ToolRules
from examples.components.credit import Discounted
from examples.components.expansion import RetryWorst
from examples.components.groups import MostVaried
from examples.components.shaping import TurnCost
from tests.helpers.places import EXAMPLES

RUN = EXAMPLES / "components" / "run.yaml"
PAGE = EXAMPLES.parent / "docs" / "own_components.md"


def tree(*rewards: float) -> TurnTree:
    """Chains of two turns."""
    grown = TurnTree((1,))
    for group, reward in enumerate(rewards):
        inner = grown.add(TurnNode(ROOT, group, 1, (1,), (-1.0,)))
        grown.add(TurnNode(inner, group, 2, (2,), (-1.0,), leaf=True, reward=reward, ended="answer"))
    return grown


def test_the_expansion_samples_the_last_turns_of_the_worst_again() -> None:
    grown, expansion = tree(1.0, 0.0, 1.0), RetryWorst(chains=3, retries=2)
    grown.proposals = [(Branch(ROOT, 0), Branch(ROOT, 1), Branch(ROOT, 2))]
    assert expansion.propose(grown, None) == [Branch(3, 1), Branch(1, 0)]  # type: ignore[arg-type]
    grown.open_paths = 1
    assert expansion.propose(grown, None) == ()  # type: ignore[arg-type]


def test_credit_and_shaping_by_hand() -> None:
    shaped = TurnCost(0.1)(tree(1.0, 0.0))
    assert shaped == pytest.approx({2: 0.8, 4: -0.2})
    assert Discounted(0.5)(tree(1.0, 0.0), shaped) == [pytest.approx([0.25, 0.5]), pytest.approx([-0.25, -0.5])]


def test_the_groups_leave_out_what_varies_least() -> None:
    trees = (tree(1.0, 1.0), tree(1.0, 0.0))

    async def grow(drawn: int) -> Rollout:
        return Rollout(trees, {}, 0, 2)

    waiting = MostVaried(0.5).collect(grow, 2)
    with pytest.raises(StopIteration) as ended:
        waiting.send(None)
    assert (ended.value.value.trees, ended.value.value.surplus) == ((trees[1],), (trees[0],))


def test_rewards_and_dialects_by_name() -> None:
    question = Question("q", "Who?", ("Ann",))
    frugal = Rules.of(reward={"name": "examples.components.reward:Frugal", "cost": 0.25}).reward
    assert frugal(judge(question, "answer", "Ann", 2, 3)) == 0.5
    partial = Rules.of(reward="examples.components.reward:partial").reward
    assert partial(judge(question, "turn_limit", None, 2, 3)) == -1.0
    terse = Rules.of(dialect="examples.components.dialect:TERSE").dialect
    assert terse.parse("<look>Ann</look>").kind == "search" and terse.stop == ("</look>", "</say>")
    assert ToolRules.of("examples.components.dialect:TERSE_TOOLS").dialect.stop(()) == ("</say>",)


def test_the_search_backend_opens_by_its_uri(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"id": "1", "title": "Ann", "text": "kept the light"}\n{"id": "2", "title": "B", "text": "sea"}\n')
    backend = search_backend.open(f"examples.components.search:open_words?file={file}")
    assert [hit.passage.id for hit in backend.search(["light ann"], 3)[0]] == ["1"]
    assert backend.search([""], 3) == [[]]


def test_a_misspelled_setting_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.credit\.gama: .* did you mean gamma\?"):
        validate(load_config(RUN, ["algorithm.credit.gama=1"]))


@pytest.mark.slow
def test_a_run_trains_with_all_of_them_records_them_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run"
    result = train(load_config(RUN, [f"run_dir={path}", "train.steps=1"]))
    assert result.steps == 1
    (session,) = json.loads((path / "manifest.json").read_text())["sessions"]
    assert {*session["components"]} == {"expansion", "credit", "objective", "groups", "shaping"}
    assert session["components"]["credit"]["module"] == "examples.components.credit"
    reward = session["env"]["components"]["reward"]
    assert reward["name"] == "examples.components.reward:Frugal" and len(reward["sha256"]) == 64
    with RunDirectory.resume(path, ["train.steps=2"]) as run:
        assert train(run.config, run=run).steps == 2


def test_an_algorithm_is_given_as_an_object_and_described_in_the_run(tmp_path: Path) -> None:
    parts = build("grpo", {"n": 2})
    algorithm = Algorithm("own", RetryWorst(2, 1), Discounted(0.7), parts.objective, MostVaried(1.0), TurnCost(0.0))
    assert build(**vars(AlgorithmConfig.of(algorithm))) == algorithm
    path = tmp_path / "run"
    config = load_config(RUN, [f"run_dir={path}", "train.steps=1", "rollout.questions=1"])
    train(config, algorithm=algorithm)
    (session,) = json.loads((path / "manifest.json").read_text())["sessions"]
    assert {*session["components"]} == {"expansion", "credit", "groups", "shaping"}
    assert session["config"]["algorithm"]["credit"] == {"name": "examples.components.credit:Discounted", "gamma": 0.7}
    with RunDirectory.resume(path, ["train.steps=2"]) as run:
        with pytest.raises(ConfigError, match="has another algorithm in its config"):
            train(run.config, run=run, algorithm=replace(algorithm, credit=Discounted(0.5)))
        assert train(run.config, run=run, algorithm=algorithm).steps == 2


def test_a_warm_start_imitates_a_teacher_that_it_names() -> None:
    def config(**teacher: Any) -> WarmStartConfig:
        return WarmStartConfig(env=EnvConfig("examples.number_game:Numbers-v0"), teacher=teacher)

    env = make_env("examples.number_game:Numbers-v0", "train", {})
    name = "examples.components.teacher:Shortest"
    teacher, hasty = (teacher_of(config(name=name, hasty=share), env) for share in (0.0, 1.0))
    ends = [play(env, task, teacher, np.random.default_rng(0)) for task in env.tasks]
    assert {end["ended"] for end in ends if not end["success"]} <= {"turn_limit"}  # some goals are too far
    assert np.mean([end["success"] for end in ends]) > 0.8
    assert play(env, env.tasks[0], hasty, np.random.default_rng(0))["turns"] == 1
    with pytest.raises(ConfigError, match=r"teacher: hasty is 2\.0, it must be from 0 to 1"):
        teacher_of(config(name=name, hasty=2), env)
    with pytest.raises(ConfigError, match=r"teacher\.hast: .* did you mean hasty\?"):
        teacher_of(config(name=name, hast=0), env)
    with pytest.raises(ConfigError, match="credit:Discounted is no Teacher: it is a Discounted"):
        teacher_of(config(name="examples.components.credit:Discounted"), env)


@pytest.mark.parametrize("name", sorted(file.stem for file in (EXAMPLES / "components").glob("*.py")))
def test_the_page_shows_the_file_as_it_is_and_it_is_short(name: str) -> None:
    source = (EXAMPLES / "components" / f"{name}.py").read_text()
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert source in blocks and len(source.splitlines()) <= 40
