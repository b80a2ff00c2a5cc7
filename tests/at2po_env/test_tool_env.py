from __future__ import annotations

import pytest

from at2po_env.testing import TaskContract
from at2po_env.tool_env import ToolEnv
from examples.number_game import make_env


class TestContract(TaskContract):
    def make_env(self) -> ToolEnv:
        return make_env()

    def actions(self) -> list[str]:
        return ["<add>4</add>", "thinking <double></double>", "<stop></stop>"]

    def other_actions(self) -> list[str]:
        return ["<double></double>", "<answer>no</answer>"]


@pytest.mark.parametrize("dialect", ["tags", "bare", "chat", "native"])
def test_a_task_is_solved_in_every_dialect(dialect: str) -> None:
    env = make_env(dialect=dialect)
    env.reset(options={"task_id": "to-16"})
