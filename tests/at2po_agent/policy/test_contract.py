"""The contract of an engine, held by the local one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from at2po_agent.policy.loading import resolve_policy
from at2po_agent.policy.local.policy import LocalPolicy
from tests.helpers.policy_contract import Engine, PolicyContract


class TestLocalPolicy(PolicyContract):
    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        policy = LocalPolicy.from_pretrained(resolve_policy("builtin:microwiki"))

        def load(model: Any, folder: Path, version: int) -> None:
            policy.model.load_state_dict(model.state_dict())
            policy.publish(policy.model, version)

        yield Engine(policy, load)
        policy.close()
