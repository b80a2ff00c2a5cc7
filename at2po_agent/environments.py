"""Environments by id, for every command: whatever is wrong with an id or its arguments is one clear error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

import at2po_env  # noqa: F401 (registers the Gymnasium ids)
from at2po_agent.structured import ConfigError
from at2po_env.core import ForkableEnv
from at2po_env.dataset import DataError
from at2po_env.search_qa import SearchQAEnv


def make_env(env_id: str, split: str, kwargs: Mapping[str, Any]) -> SearchQAEnv:
    """Make an environment without its wrappers.

    Raises:
        ConfigError: it is unknown, its arguments are wrong, or it is no ``SearchQAEnv``.
        DataNotFound: the benchmark's data is not installed.
        DataError: a record of its files is bad.
    """
    if "split" in kwargs:
        raise ConfigError(f"{env_id}: split={kwargs['split']!r}: the split has a setting of its own, give it there")
    try:
        env = gymnasium.make(env_id, split=split, **kwargs).unwrapped
    except gymnasium.error.Error as error:
        raise ConfigError(f"env.id: {error}") from error
    except DataError:
        raise
    except (TypeError, ValueError) as error:  # an argument that the environment does not have, or with a wrong value
        said = str(error).split(" was raised from the environment creator")[0]
        raise ConfigError(f"{env_id}: {said}") from error
    if not isinstance(env, SearchQAEnv):
        kind = "forkable, but not a SearchQAEnv" if isinstance(env, ForkableEnv) else "not forkable"
        raise ConfigError(f"env.id: {env_id} is {kind}; a SearchQAEnv is needed (see examples/own_task.py)")
    return env
