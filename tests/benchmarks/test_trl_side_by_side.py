"""TRL beside our trainers: costs read from a curve, equal ids on both sides, and a step of the real TRL."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from transformers import GenerationConfig

from at2po_agent.method.expansion import Chains
from at2po_agent.rollouts.batch import rollout
from benchmarks import trl_side_by_side
from benchmarks.trl_curves import Settings, Spent, read_runs, spent_to, table, write_runs
from benchmarks.trl_rollouts import EngineRollout, Episode, TransformersRollout, episodes_of, message, unequal
from benchmarks.trl_side_by_side import open_for_trl

SETTINGS = Settings(seed=1, threads=1, every=1, questions=10, max_tokens=1000, max_cpu_seconds=10)
CURVE = [(Spent(0, 0, 0), 0.2), (Spent(100, 10, 20), 0.4), (Spent(200, 30, 40), 0.6), (Spent(300, 40, 60), 0.5)]


def test_a_cost_is_interpolated_between_the_evaluations_around_the_target():
    cost = spent_to(CURVE, 0.5)
    assert cost is not None
    assert (cost.tokens, cost.cpu_seconds, cost.seconds) == pytest.approx((150, 20, 30))
    assert spent_to(CURVE, 0.6) == Spent(200, 30, 40)
    assert spent_to(CURVE, 0.1) == Spent(0, 0, 0)
    assert spent_to(CURVE, 0.7) is None


def test_a_median_counts_what_was_not_reached_as_more_than_all():
    low = [(Spent(), 0.1), (Spent(50, 5, 5), 0.2)]
    rows = table({("trl", 1): CURVE, ("trl", 2): CURVE, ("trl", 3): low, ("grpo", 1): low, ("grpo", 2): CURVE})
    assert rows[1].count("not reached") == 1 and rows[3].count("not reached") == 2  # 70 % by none
    trl, grpo = rows[-2:]
    assert trl.count("not reached") == 1 and "150" in trl
    assert grpo.count("not reached") == 2


def test_runs_with_other_settings_are_made_again(tmp_path):
    path = tmp_path / "runs.json"
    assert read_runs(path, [SETTINGS]) == {}
    other = replace(SETTINGS, threads=2)
    write_runs(path, {("trl", SETTINGS): CURVE, ("trl", other): CURVE})
    assert read_runs(path, [SETTINGS]) == {("trl", SETTINGS): CURVE}


def test_without_trl_it_says_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.setattr(sys, "argv", ["trl_side_by_side"])
    with pytest.raises(SystemExit) as stopped:
        trl_side_by_side.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].partition("error: ")[2].startswith("TRL is not installed")


@pytest.fixture(scope="module")
def opened():
    config, session = open_for_trl(SETTINGS)
    yield config, session
    session.close()


def test_both_samplers_read_and_write_the_same(opened):
    config, session = opened
    tasks = session.env.tasks[:4]
    prompts = [message(session.env.task(task).text) for task in tasks]
    generation = GenerationConfig(
        **trl_side_by_side.generation_of(config, session), do_sample=False, pad_token_id=1, eos_token_id=0
    )
    theirs = TransformersRollout(session).play(prompts, session.model, generation)
    grown = session.engine.run(rollout(session.env, tasks, session.actor.greedy(), Chains(1)))
    ours = episodes_of(grown.trees)
    assert not unequal(ours, theirs)
    assert all(len(episode.ids) == len(episode.mask) for episode in theirs)
    assert any(0 in episode.mask for episode in theirs)  # a search


def test_an_episode_that_reads_another_id_is_unequal():
    ours, theirs = ([Episode([5, 6], [7, 8], [1, 0], 1.0), Episode([5], [7], [1])] for _ in range(2))
    assert unequal(ours, theirs) == []
    theirs[0].prompt[1] = 4
    assert unequal(ours, theirs) == [0]
    theirs[0].prompt[1], theirs[1].mask = 6, [0]
    assert unequal(ours, theirs) == [1]


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("by_engine", [False, True])
def test_trl_s_loss_is_of_the_policy_s_own_tokens(opened, by_engine, tmp_path):
    config, session = opened
    config = replace(config, rollout=replace(config.rollout, questions=4), train=replace(config.train, steps=1))
    sample = EngineRollout(session, 1) if by_engine else TransformersRollout(session)
    played, losses = [], []

    def playing(prompts, trainer):
        played.append(sample(prompts, trainer))
        return played[-1]

    trainer = trl_side_by_side.grpo_trainer(config, session, playing, str(tmp_path))
    compute = trainer.compute_loss

    def noting(model, inputs, *args, **kwargs):
        losses.append((inputs, compute(model, inputs, *args, **kwargs)))
        return losses[-1][1]

    trainer.compute_loss = noting
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    (episodes,), ((inputs, loss),) = played, losses
    own = inputs["completion_mask"] * inputs["tool_mask"]
    # TRL shuffles the episodes of a step
    rows = [ids[is_own.bool()].tolist() for ids, is_own in zip(inputs["completion_ids"], own, strict=True)]
    turns = [
        [id for id, is_own in zip(ids, mask, strict=True) if is_own]
        for ids, mask in zip(episodes["completion_ids"], episodes["env_mask"], strict=True)
    ]
    assert sorted(rows) == sorted(turns) and sum(map(len, turns)) == sample.tokens
    assert any(0 in mask for mask in episodes["env_mask"])
    # on policy every token's loss is its episode's advantage, and the loss is their mean over own tokens
    assert loss.item() == pytest.approx(
        -(inputs["advantages"][:, None] * own).sum().item() / own.sum().item(), abs=1e-6
    )
    assert any(not torch.equal(before[name], weight) for name, weight in trainer.model.named_parameters())
