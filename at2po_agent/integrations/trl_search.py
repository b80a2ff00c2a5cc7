"""TRL 1.16: search questions as the environments of its trainers, which call the search as a tool.

::

    spec = Spec("AT2PO-HotpotQA-v0", search="embedded:hotpotqa", tasks=1000)
    trainer = GRPOTrainer(model, args=GRPOConfig(num_generations=8, max_tool_calling_iterations=8),
                          train_dataset=spec.train_dataset, environment_factory=spec.environment_factory,
                          reward_funcs=spec.reward_funcs)

The dialect is ``native``: TRL renders tools with the model's chat template and parses its calls. A message without a
call ends the episode, and its text is the last turn.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from at2po_agent.environments import make_env
from at2po_agent.settings import ConfigError
from at2po_env.chat import turn_text
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import plain
from at2po_env.tool_calls import TOOL, call_text

if TYPE_CHECKING:
    from datasets import Dataset

EPISODE_OVER = "The episode is over: no further search is run."


class SearchEnvironment:
    """One episode at a time, as TRL's ``environment_factory`` makes it; TRL offers every public method as a tool."""

    def __init__(self, env: SearchQAEnv) -> None:
        self._env = env

    def reset(self, task_id: str, **_: Any) -> str:
        """Begin the episode of a row.

        Args:
            task_id: of the question; the row's other columns are not read.

        Returns:
            The instructions and the question. TRL appends them to the row's last message, which is empty.
        """
        self._env.reset(options={"task_id": task_id})
        return plain(self._env.observation())

    def search(self, query: str) -> str:
        """Searches a collection of passages and returns those that match the query best.

        Args:
            query: Words to search for, such as a name and what you want to know about it.
        """
        if self._env.state.ended is not None:
            return EPISODE_OVER
        self._env.step(call_text(TOOL, json.dumps({"query": query}, ensure_ascii=False)))
        return EPISODE_OVER if self._env.state.ended is not None else plain(self._env.observation())

    def _finish(self, message: Mapping[str, Any]) -> float:
        """Take the last message as the last turn and return the episode's reward, which a second call repeats."""
        if self._env.state.ended is None:
            self._env.step(turn_text(message))
        # A call that TRL did not run any more, or a turn that the rules let go on: no answer.
        if self._env.state.ended is None:
            self._env.end("turn_limit")
        state = self._env.state
        return (state.closed or 0.0) + sum(turn.reward for turn in state.turns())


def episode_reward(completions: Sequence[Any], environments: Sequence[SearchEnvironment], **_: Any) -> list[float]:
    """The reward of each episode, a reward function of TRL."""
    return [
        environment._finish(_last_message(completion))
        for completion, environment in zip(completions, environments, strict=True)
    ]


@dataclass(frozen=True)
class EnvironmentFactory:
    """Make environments that share one search; pickled, it opens the search where it is called first."""

    env_id: str
    split: str
    settings: tuple[tuple[str, Any], ...]

    def __call__(self) -> SearchEnvironment:
        """A new environment, not yet reset."""
        return SearchEnvironment(_open(self.env_id, self.split, self.settings).clone())


class Spec:
    """What a trainer of TRL takes of an environment: ``train_dataset``, ``environment_factory``, ``reward_funcs``.

    Args:
        env_id: Gymnasium id of search questions, as ``AT2PO-MicroWiki-v0``.
        split: of its questions.
        tasks: how many of its questions, from the first on, or their ids; all of them where it is None.
        settings: of the environment, such as ``search``, ``k`` and ``max_searches``; hashable, the dialect excepted.

    Raises:
        ConfigError: the environment is unknown or has no search, or its settings are wrong.
        DataNotFound: the benchmark's data is not installed.
    """

    def __init__(
        self,
        env_id: str = "AT2PO-MicroWiki-v0",
        split: str = "train",
        tasks: int | Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        if "dialect" in settings:
            raise ConfigError("dialect: TRL calls tools natively, leave it out; it is native")
        self._factory = EnvironmentFactory(env_id, split, tuple(sorted({**settings, "dialect": "native"}.items())))
        ids = [question.id for question in _open(env_id, split, self._factory.settings).questions]
        self.train_task_ids = ids[:tasks] if tasks is None or isinstance(tasks, int) else list(tasks)

    @functools.cached_property
    def train_dataset(self) -> Dataset:
        """One row for each question: its ``task_id``, and a ``prompt`` that is empty, as ``reset`` writes it."""
        from datasets import Dataset

        prompts = [[{"role": "user", "content": ""}] for _ in self.train_task_ids]
        return Dataset.from_dict({"prompt": prompts, "task_id": self.train_task_ids})

    @property
    def environment_factory(self) -> Callable[[], SearchEnvironment]:
        """Makes an environment for each rollout; it can be pickled, as the async trainer's worker needs it."""
        return self._factory

    @property
    def reward_funcs(self) -> list[Callable[..., list[float]]]:
        """The environment's own reward, as a configuration of ours names it."""
        return [episode_reward]


@functools.cache
def _open(env_id: str, split: str, settings: tuple[tuple[str, Any], ...]) -> SearchQAEnv:
    env = make_env(env_id, split, dict(settings))
    if not isinstance(env, SearchQAEnv):
        raise ConfigError(f"{env_id} has no search to call as a tool; TRL's environments here are search questions")
    return env


def _last_message(completion: Any) -> Mapping[str, Any]:
    """The last of the assistant's messages, with the arguments of calls as the JSON text that endpoints give."""
    spoken = [message for message in completion if message["role"] == "assistant"]
    last: Mapping[str, Any] = spoken[-1] if spoken else {}
    called = [call["function"] for call in last.get("tool_calls") or ()]
    calls = [{"function": {"name": call["name"], "arguments": _as_json(call["arguments"])}} for call in called]
    return {"content": last.get("content"), "tool_calls": calls}


def _as_json(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
