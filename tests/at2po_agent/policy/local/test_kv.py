"""Slots keep what was written when they grow, and refuse what does not fit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.local.kv import KVSlots

CONFIG = SimpleNamespace(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, hidden_size=12, head_dim=3)


def slots() -> KVSlots:
    return KVSlots(CONFIG, torch.float32, torch.device("cpu"))


def test_each_row_writes_at_its_own_columns_and_sees_everything_before() -> None:
    kv = slots()
    kv.reserve(3, 5)
    key, value = torch.randn(2, 2, 2, 3), torch.randn(2, 2, 2, 3)  # [rows, heads, tokens, head_dim]
    kv.aim(slice(1, 3), torch.tensor([1, 1, 2, 2]), torch.tensor([0, 1, 3, 4]), None, 5)
    keys, values = kv.update(key, value, 1)
    assert torch.equal(keys[0, :, 0:2], key[0]) and torch.equal(values[0, :, 0:2], value[0])
    assert torch.equal(keys[1, :, 3:5], key[1]) and torch.equal(values[1, :, 3:5], value[1])
    assert keys.abs().sum() == pytest.approx(key.abs().sum())
    assert kv.states[0].abs().sum() == 0 and kv.states[:, :, 0].abs().sum() == 0


def test_padding_is_not_stored() -> None:
    kv = slots()
    kv.reserve(2, 3)
    key, value = torch.randn(2, 2, 3, 3), torch.randn(2, 2, 3, 3)
    kv.aim(slice(0, 2), torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 2]), torch.tensor([2, 3, 4, 5]), 3)
    keys, values = kv.update(key, value, 0)
    assert torch.equal(keys[0, :, 0], key[0, :, 2]) and torch.equal(values[1], value[1])
    assert keys[0, :, 1:].abs().sum() == 0


def test_growing_copying_and_writing_keep_states() -> None:
    kv = slots()
    kv.reserve(2, 4)
    kv.aim(slice(0, 1), torch.tensor([0, 0, 0]), torch.tensor([0, 1, 2]), None, 3)
    kv.update(torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3), 0)
    before = kv.read(0, 3)
    kv.reserve(9, 500)
    kv.copy(0, 8, 3)
    kv.write(5, before, 2)
    assert torch.equal(kv.read(0, 3), before) and torch.equal(kv.read(8, 3), before)
    assert torch.equal(kv.read(5, 2), before[:, :, :, :2]) and kv.read(5, 500)[:, :, :, 2:].abs().sum() == 0


def test_layers_of_another_shape_are_refused() -> None:
    kv = slots()
    kv.reserve(1, 1)
    kv.aim(slice(0, 1), torch.tensor([0]), torch.tensor([0]), None, 1)
    with pytest.raises(PolicyError, match=r"layer 1 .* does not support this architecture"):
        kv.update(torch.zeros(1, 4, 1, 3), torch.zeros(1, 4, 1, 3), 1)
