"""``ToolEnv``: any task that is solved by calling tools, as a forkable Gymnasium environment.

.. code-block:: python

    def add(n: int, state: dict) -> str:
        \"\"\"Add n to the number.\"\"\"
        state["number"] += n
        return str(state["number"])

    tasks = [ToolTask("seven", "Make 7 from 0.", state={"number": 0})]
    env = ToolEnv([add], tasks, lambda end: end.state["number"] == 7)
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self

from at2po_env.core import StepResult
from at2po_env.dataset import DataError
from at2po_env.episode_env import EpisodeEnv
from at2po_env.episodes import Episode, EpisodeTurn, action_json
from at2po_env.errors import SnapshotError, ToolUnavailable
from at2po_env.replay import check_replayed
from at2po_env.snapshots import chain
from at2po_env.state import Text
from at2po_env.tasks import Bounds, Task
from at2po_env.tool_dialects import ToolAction
from at2po_env.tool_rules import EndReason, Finished, Reward, ToolRules, ToolTask
from at2po_env.tool_sessions import EpisodeSessions, check_forkable, check_not_lost
from at2po_env.tools import Tool, ToolFault, result_text
from search_backend.background import BackgroundLoop
from search_backend.components import described


class ToolEnv(EpisodeEnv):
    """Tasks that are solved by calling tools. An action is the text of one model turn.

    Args:
        tools: typed functions with docstrings, or the tools of an ``McpServer``; see ``Tool``. A parameter ``state``
            takes the episode's state, a dict that belongs to the call: forks share nothing.
        tasks: what is to be done, each with the state that it begins with.
        reward: of an episode that has ended; ``success`` is whether it is at least 1.
        rules: limits and dialect; ``ToolRules.of()`` where they are not given.
        name: of the tasks, and of their ``split``, in tables and manifests.
        split: see ``name``.
        **options: ``order``, ``copies`` and ``render_mode`` of ``TaskEnv``.

    ``info`` holds ``task_id``, ``turns``, ``action`` (kind, content, why), and at the end ``ended``, ``success``,
    ``reward`` and ``answer``.

    Raises:
        DataError: two tasks have one id, or a state is not made of JSON values.
        TypeError: a function cannot be a tool.
        ValueError: two tools have one name, or one that the dialect needs.
    """

    waits_for = "tools"

    decided_by = "other tools, tasks, reward or limits"

    def __init__(
        self,
        tools: Sequence[Callable[..., Any] | Tool],
        tasks: Sequence[ToolTask],
        reward: Reward,
        rules: ToolRules | None = None,
        *,
        name: str = "own",
        split: str = "all",
        **options: Any,
    ) -> None:
        if not tasks:
            raise DataError(f"{name} {split}: there are no tasks")
        super().__init__([task.id for task in tasks], name, split, **options)
        self.rules = ToolRules.of() if rules is None else rules
        called = [tool if isinstance(tool, Tool) else Tool.of(tool) for tool in tools]
        self.tools = {tool.name: tool for tool in called}
        # Whose sessions an episode has; the order of a dict, each once.
        self._hosts = tuple(dict.fromkeys(tool.host for tool in called if tool.host is not None))
        self._sessions = EpisodeSessions()
        self.stop, self.chat = self.rules.dialect.stop(called), self.rules.dialect.chat(called)
        self.limits = self.rules.limits
        self.bounds = Bounds(self.rules.max_turns, self.rules.dialect.result_bytes(called, self.rules.max_result_chars))
        self._by_id = {task.id: task for task in tasks}
        self._reward = reward
        self._check(tasks, [tool.name for tool in called])
        self._rules_digest = self._digest()

    def _check(self, tasks: Sequence[ToolTask], tools: Sequence[str]) -> None:
        if len(self._by_id) < len(tasks):
            raise DataError(f"{self.name} {self.split}: two tasks have the same id")
        dialect = self.rules.dialect
        if taken := {name for name in tools if tools.count(name) > 1} | {*tools} & {dialect.answer, dialect.think}:
            raise ValueError(f"tool names {sorted(taken)} are taken by another tool or by a tag of the dialect")
        if unknown := set(self.rules.ends) - set(self.tools):
            raise ValueError(f"ends names unknown tools {sorted(unknown)}; the tools are {sorted(self.tools)}")
        try:
            described = [[task.id, task.text, task.group, list(task.answers), dict(task.state)] for task in tasks]
            self._tasks_digest = chain("tasks", json.dumps(described, sort_keys=True, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.name} {self.split}: a task's state must be made of JSON values: {error}") from error

    def _digest(self) -> str:
        rules = self.rules
        schemas = json.dumps([tool.schema for tool in self.tools.values()], sort_keys=True)
        limits = (rules.max_turns, rules.max_result_chars, rules.on_malformed, rules.ends)
        # An object that is called as a function is known by its class.
        reward = self._reward if hasattr(self._reward, "__qualname__") else type(self._reward)
        named = (f"{reward.__module__}.{reward.__qualname__}", *(t.source for t in self.tools.values()))
        return chain("tool rules", rules.dialect.digest, schemas, *map(str, limits), *named, self._tasks_digest)

    def begin(self, task_id: str) -> None:
        """Start an episode of a task."""
        self._sessions.close()
        self._sessions = EpisodeSessions()
        self._episode = Episode.begin(task_id, self._rules_digest, dict(self._task(task_id).state))

    def _task(self, task_id: str) -> ToolTask:
        if task_id not in self._by_id:
            raise KeyError(f"{self.name} {self.split} has no task with id {task_id!r}")
        return self._by_id[task_id]

    def task(self, task_id: str) -> Task:
        """The description of the task."""
        return self._task(task_id)

    def manifest(self) -> dict[str, Any]:
        """The tasks, the tools and the dialect, each with its digest."""
        rules = self.rules
        return {
            "dataset": self._dataset(),
            "tools": [tool.schema for tool in self.tools.values()],
            "dialect": {"name": rules.dialect.name, "digest": rules.dialect.digest},
            "rules": {**rules.limits, "ends": list(rules.ends), "digest": self._rules_digest},
            **described(rules.origins),
        }

    def read_action(self, text: str) -> dict[str, Any]:
        """Parse a turn in the dialect."""
        return self.rules.dialect.parse(text, self.tools).to_json()

    def step(self, action: str) -> StepResult:
        """Take one turn.

        Raises:
            ResetNeeded: there is no episode, or it has ended.
        """
        text, read = self._read(action)
        return self._advance(text, read, _loop().run(self._acall(read)) if self._waits(read) else self._call(read))

    async def astep(self, action: str) -> StepResult:
        """``step`` that lets other episodes go on while a tool waits."""
        text, read = self._read(action)
        return self._advance(text, read, await self._acall(read) if self._waits(read) else self._call(read))

    def _read(self, action: str) -> tuple[str, ToolAction]:
        text = self._turn(action)
        return text, self.rules.dialect.parse(text, self.tools)

    def _waits(self, read: ToolAction) -> bool:
        tool = self.tools.get(read.tool)
        return tool is not None and (tool.asynchronous or self.rules.timeout is not None)

    def _call(self, read: ToolAction) -> _Result:
        state = json.loads(self.episode.state)
        if read.kind != "call":
            return _Result(read.why or "", state)
        try:
            tool = self._tool(read)
            return self._done(tool, tool.call(read.arguments, state), state)
        except ToolFault as fault:
            return self._failed(fault)

    async def _acall(self, read: ToolAction) -> _Result:
        state = json.loads(self.episode.state)
        try:
            tool = self._tool(read)
            return self._done(tool, await self._called(tool, read.arguments, state), state)
        except ToolFault as fault:
            return self._failed(fault)

    async def _called(self, tool: Tool, arguments: Mapping[str, Any], state: Any) -> Any:
        if tool.host is not None and self._sessions.astray:
            await self._catch_up()
        try:
            return await tool.at(self._sessions).acall(arguments, state, timeout=self.rules.timeout)
        except (ToolUnavailable, asyncio.CancelledError):
            # Nobody knows whether the call was taken.
            self._sessions.astray = True
            raise

    async def _catch_up(self) -> None:
        """Take the turns of the episode again in new sessions.

        Raises:
            ToolUnavailable: a session is lost, and its host cannot be played again.
            ReplayDiverged: the same turns brought something else.
        """
        *later, _ = self.episode.lineage()
        if later:
            check_not_lost(self._hosts)
        again = self.clone()
        again.begin(self.episode.task_id)
        for then in reversed(later):
            assert then.turn is not None
            await again.astep(then.turn.text)
            who = f"{self.name}, task {then.task_id!r}"
            check_replayed(again.episode, then, who, "how='replay' needs a server that starts anew with each session")
        self._sessions.close()
        self._sessions = again._sessions

    def _tool(self, read: ToolAction) -> Tool:
        if read.tool not in self.tools:
            raise ToolFault(f"there is no tool {read.tool!r:.80}; there are {', '.join(self.tools)}")
        return self.tools[read.tool]

    def _done(self, tool: Tool, result: Any, state: Any) -> _Result:
        return _Result(
            result_text(tool.name, result, self.rules.max_result_chars), state, ends=tool.name in self.rules.ends
        )

    def _failed(self, fault: ToolFault) -> _Result:
        """A call that failed has changed no state and ends nothing."""
        text = f"error: {fault}"
        return _Result(result_text("", text, self.rules.max_result_chars), json.loads(self.episode.state))

    def _advance(self, text: str, read: ToolAction, result: _Result) -> StepResult:
        episode, rules = self.episode, self.rules
        ended = self._end(read, result)
        seen = ended is None or read.kind == "call"
        observation = rules.dialect.result(result.text, read.kind) if seen else ()
        reward, scores = 0.0, dict[str, float]()
        if ended is not None:
            task = self._task(episode.task_id)
            reward, scores = self._score(Finished(task, ended, read.content, result.state, episode.depth + 1))
        turn = EpisodeTurn(text, action_json(read.to_json()), observation, reward)
        self._episode = episode.after(turn, result.state, ended, scores)
        if ended is not None:
            self._sessions.close()
        return self._stepped(reward)

    def _end(self, read: ToolAction, result: _Result) -> EndReason | None:
        if read.kind == "answer":
            return "answer"
        if read.kind == "malformed" and self.rules.on_malformed == "end":
            return "malformed"
        if result.ends:
            return "done"
        return "turn_limit" if self.episode.depth + 1 >= self.rules.max_turns else None

    def _score(self, end: Finished) -> tuple[float, dict[str, float]]:
        reward = float(self._reward(end))
        return reward, {"success": float(reward >= 1), "reward": reward, "turns": float(end.turns)}

    def end(self, reason: str) -> StepResult:
        """End the episode from outside: truncated, rewarded as one without an answer.

        Args:
            reason: ``length_limit`` (no room to generate) or ``turn_limit``.
        """
        episode = self._closing(reason)
        state = json.loads(episode.state)
        reward, scores = self._score(Finished(self._task(episode.task_id), reason, None, state, episode.depth))
        self._episode = episode.close(reason, reward, scores)
        self._sessions.close()
        return self._stepped(reward)

    def observation(self) -> Text:
        """The text for the model: the prompt, or the observation of the last turn."""
        episode = self.episode
        if episode.turn is None:
            return self.rules.dialect.prompt(self._task(episode.task_id).text, tuple(self.tools.values()))
        # Placed again, as a snapshot's JSON form has segments only.
        return self.rules.dialect.placed(episode.turn.observation, json.loads(episode.turn.action)["kind"])

    def info(self) -> dict[str, Any]:
        """The task's id, the turns so far, the last action, and how the episode ended."""
        info = super().info()
        if "ended" in info:
            info["answer"] = info["action"]["content"] if info["ended"] == "answer" else None
        return info

    def restore(self, snapshot: Episode) -> None:
        """Continue from ``snapshot``, taken here or in any environment with equal tools, tasks and rules.

        Raises:
            SnapshotError: it was taken in another environment, or was changed.
            ForkError: a server keeps a state of the episode that cannot be brought back.
        """
        self._check_snapshot(snapshot)
        episode = snapshot if snapshot.played else self._checked(snapshot)
        if self._hosts and episode != self._episode:
            self._leave_for(episode)
        self._episode = episode

    def _leave_for(self, episode: Episode) -> None:
        """Give up the sessions, which are not where an episode is."""
        unfinished = episode.depth > 0 and episode.ended is None
        if unfinished:
            check_forkable(self._hosts)
        self._sessions.close()
        self._sessions = EpisodeSessions(astray=unfinished)

    def _checked(self, snapshot: Episode) -> Episode:
        """An episode that was read from JSON, if its actions and scores are what its texts and states say."""
        for episode in snapshot.lineage():
            if episode.turn is None:
                continue
            read = self.rules.dialect.parse(episode.turn.text, self.tools)
            if action_json(read.to_json()) != episode.turn.action:
                raise SnapshotError(
                    f"the snapshot of task {snapshot.task_id!r} was modified: it records the turn "
                    f"{episode.turn.text!r:.80} as {episode.turn.action}, which it is not"
                )
        return replace(snapshot, played=True)

    def clone(self) -> Self:
        """A new environment over the same tasks and tools, not yet reset."""
        env = super().clone()
        env._sessions = EpisodeSessions()
        return env

    def close(self) -> None:
        """End what the current episode has open at servers."""
        self._sessions.close()


@dataclass(frozen=True)
class _Result:
    """The result of a turn, before it is formatted."""

    text: str
    state: Any
    ends: bool = False


@cache
def _loop_of(process: int) -> BackgroundLoop:
    return BackgroundLoop("tools")


def _loop() -> BackgroundLoop:
    """The event loop on which synchronous steps run asynchronous tools; a forked process gets its own."""
    return _loop_of(os.getpid())
