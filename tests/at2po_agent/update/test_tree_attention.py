"""The seam of attention along trees: which kernel a device gets, and a model that no tree is passed to."""

from __future__ import annotations

import pytest
import torch

from at2po_agent.policy.base import PolicyError
from at2po_agent.update.attention_blocks import Blocks
from at2po_agent.update.attention_flex import FlexPlanner
from at2po_agent.update.logprobs import prepare_model
from at2po_agent.update.packing import collate, pack_tree
from at2po_agent.update.schedule import UpdateConfig
from at2po_agent.update.tree_attention import planner_of
from tests.helpers.random_trees import random_batch, tiny

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_cpus_get_blocks() -> None:
    plan = planner_of(tiny(), UpdateConfig(), CPU, pytest.fail)
    assert isinstance(plan(collate([pack_tree(*tree) for tree in random_batch()])), Blocks)


def test_a_gpu_gets_flex_attention_and_blocks_where_that_is_wished() -> None:
    model = tiny(head_dim=16)
    assert isinstance(planner_of(model, UpdateConfig(), CUDA, pytest.fail), FlexPlanner)
    assert not isinstance(planner_of(model, UpdateConfig(attention="blocks"), CUDA, pytest.fail), FlexPlanner)


def test_heads_that_are_too_small_get_blocks_and_a_line() -> None:
    notes: list[str] = []
    assert not isinstance(planner_of(tiny(), UpdateConfig(), CUDA, notes.append), FlexPlanner)
    assert notes == [
        "attention along trees runs over sdpa, which is slow on a GPU: FlexAttention needs heads of 16 or more, not 4"
    ]


def test_a_missing_triton_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("at2po_agent.update.tree_attention.find_spec", lambda name: None)
    notes: list[str] = []
    assert not isinstance(planner_of(tiny(head_dim=16), UpdateConfig(), CUDA, notes.append), FlexPlanner)
    assert len(notes) == 1 and "needs Triton, which is not installed" in notes[0]
    with pytest.raises(PolicyError, match=r"update\.attention=flex needs Triton"):
        planner_of(tiny(head_dim=16), UpdateConfig(attention="flex"), CUDA, pytest.fail)


def test_flex_attention_is_refused_on_cpus() -> None:
    with pytest.raises(PolicyError, match=r"update.attention=flex needs a GPU, .*: set update.attention=blocks"):
        planner_of(tiny(), UpdateConfig(attention="flex"), CPU, pytest.fail)


def test_a_prepared_model_without_a_tree_is_the_model_it_was(tmp_path) -> None:  # type: ignore[no-untyped-def]
    ids = torch.arange(12).reshape(2, 6) % 7
    padding = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    model = tiny()
    before = [model(input_ids=ids, attention_mask=mask).logits for mask in (None, padding)]
    prepare_model(model)
    after = [model(input_ids=ids, attention_mask=mask).logits for mask in (None, padding)]
    torch.testing.assert_close(before, after, rtol=0, atol=0)
    model.save_pretrained(tmp_path)
    assert "tree_or_sdpa" not in (tmp_path / "config.json").read_text()
