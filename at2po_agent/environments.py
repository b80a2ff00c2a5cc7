"""Environments by id, for every command: whatever is wrong with an id or its arguments is one clear error."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
from omegaconf import MISSING

import at2po_env  # noqa: F401 (registers the Gymnasium ids)
from at2po_agent.settings import ConfigError
from at2po_env.core import ForkableEnv
from at2po_env.dataset import DataError
from at2po_env.tasks import TaskEnv
from search_backend.components import import_module


@dataclass(frozen=True)
class EnvConfig:
    """Which environment is trained on."""

    id: str = MISSING  # a Gymnasium id such as AT2PO-MicroWiki-v0
    split: str = "train"
    kwargs: dict[str, Any] = field(default_factory=dict)  # passed to gymnasium.make
    imports: tuple[str, ...] = ()  # modules imported first: where your own tasks register their ids


def import_tasks(modules: Sequence[str]) -> None:
    """Import the modules that register a user's own environments; the working directory is searched too.

    Raises:
        ConfigError: there is no such module. What goes wrong inside one keeps its own error.
    """
    for module in modules:
        if import_module(module) is None:
            raise ConfigError(f"env.imports: there is no module {module!r} in {os.getcwd()} or installed")


def check_env_id(env_id: str) -> None:
    """Raise a ConfigError where no environment is registered under ``env_id``, or ``MODULE:ID`` once it is imported."""
    module, _, name = env_id.rpartition(":")
    if module:
        import_tasks([module])
    try:
        gymnasium.spec(name)
    except gymnasium.error.UnregisteredEnv as error:
        raise ConfigError(f"env.id: {error}") from error
    except gymnasium.error.Error:
        # Such as an id without its version, of which ``gymnasium.make`` takes the latest.
        pass


def make_env(env_id: str, split: str, kwargs: Mapping[str, Any]) -> TaskEnv[Any]:
    """Make an environment without its wrappers.

    Raises:
        ConfigError: it is unknown, its arguments are wrong, or it is no ``TaskEnv``.
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
    if not isinstance(env, TaskEnv):
        kind = "forkable, but has no tasks" if isinstance(env, ForkableEnv) else "not forkable"
        raise ConfigError(f"env.id: {env_id} is {kind}: a TaskEnv is needed (see at2po_env/tasks.py)")
    return env


def takes(env_id: str, argument: str) -> bool:
    """Whether the environment of a registered id can be given an argument of this name."""
    try:
        entry_point = gymnasium.spec(env_id.rpartition(":")[2]).entry_point
    except gymnasium.error.Error:
        # An id without its version: making it says what it does not take.
        return True
    make = gymnasium.envs.registration.load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    parameters = inspect.signature(make).parameters.values() if make is not None else ()
    return any(one.name == argument or one.kind is one.VAR_KEYWORD for one in parameters)
