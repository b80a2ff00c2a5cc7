"""A task whose tools a real MCP server has, registered as docs/own_environment.md says: for configurations to name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium
import numpy as np

from at2po_env import Finished, McpServer, ToolEnv, ToolRules, ToolTask
from at2po_env.scripts import Script, Teacher
from tests.helpers.mcp_servers import COUNTER

STATELESS = f"{__name__}:McpTwice-v0"
SESSIONS = f"{__name__}:McpAdd-v0"
ANSWER = "4"


@cache
def server(stateless: bool) -> McpServer:
    """One for each process, which ends with it."""
    return McpServer.stdio(COUNTER, stateless=stateless)


def right(end: Finished) -> float:
    return float(end.answer in end.task.answers)


@dataclass(frozen=True)
class Caller(Teacher):
    """Calls the tool with 2 and answers with what it brings."""

    hasty: float = 0.0  # of answering at once, and wrongly

    def __call__(self, env: ToolEnv, rng: np.random.Generator) -> Script:
        (tool,) = env.tools
        called = [f"<{tool}>2</{tool}>", f"<answer>{ANSWER}</answer>"]
        turns = iter(["<answer>2</answer>"] if rng.random() < self.hasty else called)
        return lambda: next(turns)


class McpTask(ToolEnv):
    teacher = Caller


def make(split: str, tool: str, **rules: Any) -> McpTask:
    tasks = [ToolTask(f"task-{n}", "Make 4.", answers=(ANSWER,)) for n in range(2)]
    tools = server(stateless=tool == "twice").tools(tool)
    return McpTask(tools, tasks, right, ToolRules.of(**{"max_turns": 3, **rules}), name="mcp", split=split)


gymnasium.register("McpTwice-v0", entry_point=f"{__name__}:make", kwargs={"tool": "twice"})
gymnasium.register("McpAdd-v0", entry_point=f"{__name__}:make", kwargs={"tool": "add"})
