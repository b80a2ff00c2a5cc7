from __future__ import annotations

import re
from pathlib import Path

import pytest

from at2po_agent.settings import ConfigError
from at2po_agent.study.config import load_study
from at2po_agent.training.config import load_config
from at2po_agent.training.validation import validate

TRAIN = "env: {id: AT2PO-MicroWiki-v0}\npolicy: {path: builtin:microwiki}\ntrain: {steps: 9, max_seconds: 5}\n"
STUDY = "config: train.yaml\nvariants: {a: [], b: [algorithm.name=grpo, update.lr=0.5]}\nbudget: {tokens: 70}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "train.yaml").write_text(TRAIN)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path / "study.yaml"


def test_every_variant_with_every_seed_at_one_budget(file):
    study = load_study(file, ["seeds=[4,5]", "overrides=[eval.questions=3]", "name=mine"])
    names = [cell.name for cell in study.cells]
    assert names == ["a-seed4", "b-seed4", "a-seed5", "b-seed5"] and study.reference == "a"
    config = study.cells[3].training()
    assert (config.algorithm.name, config.update.lr, config.seed, config.eval.questions) == ("grpo", 0.5, 5, 3)
    assert (config.train.max_tokens, config.train.max_seconds, config.train.steps) == (70, None, 9)
    assert config.run_dir == "runs/studies/mine/cells/b-seed5" and config.threads == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget={tokens: 1, calls: 2}", "such as budget: {tokens: 75000}; got 2"),
        ("budget.tokens=null", "got 0"),
        ("variants={}", "variants is empty"),
        ("variants={a/b: []}", "'a/b' names folders"),
        ("reference=c", "reference is 'c', the variants are a, b"),
        ("seeds=[1,1]", "seeds are one or more numbers, each once"),
        ("sedes=[1]", "there is no key 'sedes'"),
    ],
)
def test_what_is_refused(file, override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_study(file, [override])


def test_a_wrong_override_of_a_variant_is_refused(file):
    study = load_study(file, ["variants={a: [update.lrr=1]}"])
    with pytest.raises(ConfigError, match=r"no key .update\.lrr."):
        study.cells[0].training()


def test_a_study_may_be_composed_too(file):
    (folder := file.parent / "over").mkdir()
    (folder / "over.yaml").write_text("config: other.yaml\nseeds: [7]\n")
    (folder / "other.yaml").write_text(TRAIN.replace("steps: 9", "steps: 4"))
    study = load_study([file, folder / "over.yaml"], ["name=mine"])
    assert [cell.name for cell in study.cells] == ["a-seed7", "b-seed7"]
    assert study.cells[0].training().train.steps == 4
    assert load_study([folder / "over.yaml", file]).cells[0].training().train.steps == 9
    assert load_study([file], ["config=quickstart"]).cells[0].training().name == "a-seed1"


def test_every_run_is_one_process(file):
    assert load_config("quickstart").processes == 2
    (first, *_) = (cell.training() for cell in load_study([file], ["config=quickstart"]).cells)
    # Runs that were made before the quick start had these settings have the defaults.
    assert (first.processes, first.update.sharding) == (1, "full")


@pytest.mark.parametrize(
    ("name", "tokens", "leaves"),
    [
        ("quickstart_six", 75_000, {16}),
        ("ablations", 75_000, {16}),
        ("harder", 150_000, {16}),
        ("cheaper_steps", 75_000, {8, 13, 16}),
    ],
)
def test_the_studies_that_ship(name, tokens, leaves):
    study = load_study(name)
    configs = [cell.training() for cell in study.cells if cell.seed == study.config.seeds[0]]
    assert {config.train.max_tokens for config in configs} == {tokens}
    assert {validate(config).expansion.leaves for config in configs} == leaves
