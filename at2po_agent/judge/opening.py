"""The environment of an evaluation, opened as its configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from at2po_agent.environments import make_env, takes
from at2po_agent.judge.config import DIALECT_OF, Format, JudgeConfig, LimitConfig, ModelConfig
from at2po_agent.judge.resolve import default_split
from at2po_agent.judge.tree.search import check_votes
from at2po_agent.settings import ConfigError
from at2po_env.tasks import TaskEnv


def chat_config(
    env_id: str, model: str, split: str | None, format: Format, limits: LimitConfig, env: Mapping[str, Any]
) -> JudgeConfig:
    """How an environment is played where another suite asks the model, in place of a client of ours.

    Args:
        env_id: its Gymnasium id.
        model: a name for records.
        split: of its tasks; the one that ``at2po-agent eval`` takes where it is None.
        format: ``tags`` in the messages, or ``native`` tool calls.
        limits: of an episode.
        env: arguments of the environment.
    """
    # An address, though an empty one, makes the environment one for chat endpoints.
    asked = ModelConfig(model, "")
    return JudgeConfig((env_id,), asked, split or default_split(env_id), format=format, limits=limits, env=dict(env))


def open_env(config: JudgeConfig) -> TaskEnv[Any]:
    """Open the environment of an evaluation; at an endpoint in the dialect of the ``format``, if it has dialects.

    Raises:
        ConfigError: it is unknown, or cannot be evaluated as configured.
        DataNotFound: the benchmark's data is not installed.
    """
    kwargs: dict[str, Any] = dict(config.env)
    if config.search is not None:
        kwargs["search"] = config.search
    remote = config.model.base_url is not None
    if remote and takes(config.envs[0], "dialect"):
        kwargs.setdefault("dialect", DIALECT_OF[config.format])
    assert config.split is not None
    env = make_env(config.envs[0], config.split, kwargs)
    try:
        if remote:
            _check_chat(env, config)
        if config.tree:
            check_votes(env)
    except ConfigError:
        env.close()
        raise
    return env


def _check_chat(env: TaskEnv[Any], config: JudgeConfig) -> None:
    """Raise a ConfigError where a chat endpoint cannot play as configured."""
    dialect = env.manifest().get("dialect", {}).get("name")
    if env.chat is None and dialect is None:
        raise ConfigError(f"{config.envs[0]} cannot be played by a chat endpoint: its environment has no TaskEnv.chat")
    if env.chat is None:
        raise ConfigError(
            f"env.dialect is {dialect!r}, which shows results inside the assistant's message; a chat endpoint "
            f"needs one that shows them as messages: {' or '.join(DIALECT_OF.values())}"
        )
    if bool(env.chat.tools) != (config.format == "native"):
        raise ConfigError(f"format is {config.format!r}, and env.dialect {dialect!r} belongs to the other format")
