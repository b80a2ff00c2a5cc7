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
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from at2po_agent.environments import make_env
from at2po_agent.settings import ConfigError
from at2po_env.errors import ToolUnavailable
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import plain
from at2po_env.tool_calls import TOOL, call_text
from search_backend.base import SearchError
from search_backend.outside import well_formed

if TYPE_CHECKING:
    from datasets import Dataset

EPISODE_OVER = "The episode is over: no further search is run."
_OUTAGE = "the search failed, no fault of the policy"
# TRL makes a tool's error the tool's message, str({"error": …}), and goes on with the episode.
_OUTAGE_MESSAGE = re.compile(rf"""\s*\{{\s*["']error["']\s*:\s*["']{re.escape(_OUTAGE)}""")


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
        try:
            self._env.step(call_text(TOOL, json.dumps({"query": query}, ensure_ascii=False)))
        except SearchError as error:
            raise ToolUnavailable(f"{_OUTAGE}: {error}") from error
        return EPISODE_OVER if self._env.state.ended is not None else plain(self._env.observation())


# transformers would write the type of the result into the tool's schema, and so into the prompt; our dialect has none.
del SearchEnvironment.search.__annotations__["return"]


@dataclass(frozen=True)
class EnvironmentFactory:
    """Make environments that share one search; pickled, it opens the search where it is called first."""

    env_id: str
    split: str
    settings: tuple[tuple[str, Any], ...]

    def __call__(self) -> SearchEnvironment:
        """A new environment, not yet reset."""
        return SearchEnvironment(self.open().clone())

    def open(self) -> SearchQAEnv:
        """The environment that all share; clone it."""
        return _open(self.env_id, self.split, self.settings)


@dataclass(frozen=True)
class EpisodeReward:
    """The environment's reward of each episode, as a reward function of TRL: from its messages alone.

    GRPOTrainer hands a reward function the environments, the asynchronous trainer does not; and neither tells an
    environment the last message. So the turns are taken again, without searching: no reward depends on what was found.
    """

    factory: EnvironmentFactory
    __name__ = "episode_reward"  # under which TRL logs it

    def __call__(
        self, completions: Sequence[Sequence[Mapping[str, Any]]], task_id: Sequence[str], **_: Any
    ) -> list[float]:
        """One reward for each completion, a list of messages.

        Args:
            completions: with the calls that TRL parsed and the messages of the tool.
            task_id: the column of the rows.

        Raises:
            ToolUnavailable: a search of an episode failed. TRL stops: an outage is never scored.
        """
        for message in itertools.chain.from_iterable(completions):
            said = message.get("content")
            if message["role"] == "tool" and isinstance(said, str) and _OUTAGE_MESSAGE.match(said):
                raise ToolUnavailable(f"an episode whose search failed cannot be scored: {said}")
        return [self._of(messages, task) for messages, task in zip(completions, task_id, strict=True)]

    def _of(self, messages: Sequence[Mapping[str, Any]], task_id: str) -> float:
        env = self.factory.open().clone()
        env.begin(task_id)
        state = env.state
        for text in itertools.chain.from_iterable(map(_turns, messages)):
            if state.ended is None:
                state = env.rules.advance(state, text, env.dialect.parse(text), ())
        # A call that TRL did not run any more, or a turn that the rules let go on: no answer.
        if state.ended is None:
            state = env.rules.close(state, "turn_limit")
        return (state.closed or 0.0) + sum(turn.reward for turn in state.turns())


class Spec:
    """The arguments that a TRL trainer takes: ``train_dataset``, ``environment_factory``, ``reward_funcs``.

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
        ids = [question.id for question in self._factory.open().questions]
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
        return [EpisodeReward(self._factory)]


@functools.cache
def _open(env_id: str, split: str, settings: tuple[tuple[str, Any], ...]) -> SearchQAEnv:
    env = make_env(env_id, split, dict(settings))
    if not isinstance(env, SearchQAEnv):
        raise ConfigError(f"{env_id} has no search to call as a tool; TRL's environments here are search questions")
    return env


def _turns(message: Mapping[str, Any]) -> list[str]:
    """The turns of an assistant's message: its calls, as the environment was given them, or else its text."""
    if message["role"] != "assistant":
        return []
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    if not calls:
        return [well_formed(message.get("content") or "")]
    return [call_text(well_formed(call["name"]), well_formed(_as_json(call["arguments"]))) for call in calls]


def _as_json(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
