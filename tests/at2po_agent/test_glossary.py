"""Every name that a run, an evaluation or a study shows has an entry."""

from __future__ import annotations

from pathlib import Path

from at2po_agent.environments import EnvConfig
from at2po_agent.glossary import COSTS, EPISODES, SECTIONS, TIME, logged
from at2po_agent.judge.measured import MEASURES
from at2po_agent.method.algorithms import AlgorithmConfig
from at2po_agent.policy.loading import PolicyConfig
from at2po_agent.rollouts.batch import RolloutConfig
from at2po_agent.study import runs
from at2po_agent.training.config import EvalConfig, TrainConfig, TrainLimits
from at2po_agent.training.loggers import GROUPS
from at2po_agent.training.run_dir import read_metrics
from at2po_agent.training.trainer import train


def test_every_metric_that_a_run_writes_has_an_entry(tmp_path: Path) -> None:
    # With every term that adds a metric: dual clip, a KL, groups that can be left out.
    algorithm = AlgorithmConfig(
        "at2po",
        expansion={"chains": 2, "per_round": 1, "rounds": 1},
        objective={"name": "token_clip", "kl_coef": 1e-3},
        groups={"name": "dynamic", "max_batches": 1},
    )
    config = TrainConfig(
        run_dir=str(tmp_path / "run"),
        threads=1,
        env=EnvConfig("AT2PO-MicroWiki-v0", kwargs={"dialect": "bare", "k": 1, "max_searches": 2}),
        policy=PolicyConfig("builtin:microwiki", device="cpu"),
        rollout=RolloutConfig(questions=4, max_turn_tokens=24),
        algorithm=algorithm,
        train=TrainLimits(steps=1),
        eval=EvalConfig(questions=2, at_start=False),
    )
    train(config)
    lines = list(read_metrics(tmp_path / "run"))
    assert len(lines) == 2
    assert {"update_dual_clip_fraction", "update_kl_ref"} <= set(lines[0])
    for line in lines:
        assert not set(line.pop("time")) - set(TIME)
        assert [name for name in line if name != "step" and not logged(name)] == []


def test_what_is_grouped_for_loggers_has_an_entry() -> None:
    assert [name for group in GROUPS.values() for name in group if not logged(name)] == []


def test_the_means_of_an_evaluation_and_the_costs_of_a_study_have_an_entry() -> None:
    assert not set(MEASURES) - set(EPISODES)
    assert set(runs.COSTS) == set(COSTS)


def test_an_entry_is_one_sentence_without_its_full_stop() -> None:
    for entries in SECTIONS.values():
        for entry in entries.values():
            assert entry.words[0].isupper()
            assert not entry.words.endswith(".")


def test_what_only_an_environment_measures_has_none() -> None:
    assert logged("keys_found") is None
    assert logged("eval_keys_found") is None
