"""Environments by id, for every command: whatever is wrong with an id or its arguments is one clear error."""

from __future__ import annotations

import difflib
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
from at2po_env.forkable import Forkable
from at2po_env.registration import BENCHMARKS, TASK_FAMILIES
from at2po_env.tasks import TaskEnv
from search_backend.components import import_module


@dataclass(frozen=True)
class EnvConfig:
    """The environment that a policy is trained on."""

    id: str = MISSING  # a Gymnasium id such as AT2PO-MicroWiki-v0
    split: str = "train"  # of the questions, or tasks
    kwargs: dict[str, Any] = field(default_factory=dict)  # passed to gymnasium.make
    imports: tuple[str, ...] = ()  # modules imported first: where your own tasks register their ids
    fork: Any = None  # copy, replay, or {how: …, tasks: …, tag: …}: how to fork an environment that cannot by itself

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments for ``make_env``."""
        return dict(self.kwargs) if self.fork is None else {**self.kwargs, "fork": self.fork}


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
        raise ConfigError(f"env.id: {error}{_meant(name, str(error))}") from error
    except gymnasium.error.Error:
        # Such as an id without its version, of which ``gymnasium.make`` takes the latest.
        pass


def _meant(name: str, message: str) -> str:
    """Which of our ids was probably meant, where Gymnasium has not named any: ``microwiki``, ``at2po-nq-v0``."""
    ours = {family.lower(): family for family in TASK_FAMILIES}
    for short, entry in BENCHMARKS.items():
        ours |= {short: entry.id, entry.id.lower(): entry.id}
    near = difflib.get_close_matches(name.lower(), ours, n=1, cutoff=0.8)
    return f" Did you mean: `{ours[near[0]]}`?" if near and "Did you mean" not in message else ""


def make_env(env_id: str, split: str, kwargs: Mapping[str, Any]) -> TaskEnv[Any]:
    """Make an environment without its wrappers.

    Args:
        env_id: its Gymnasium id.
        split: of its tasks.
        kwargs: its arguments. ``fork`` is ours: it makes a ``Forkable`` of an environment that is no ``TaskEnv``.

    Raises:
        ConfigError: it is unknown, its arguments are wrong, or it is no ``TaskEnv``.
        DataNotFound: the benchmark's data is not installed.
        DataError: a record of its files is bad.
    """
    if "split" in kwargs:
        raise ConfigError(
            f"{env_id}: split={kwargs['split']!r}: set it as env.split for train, and as split for eval and gates"
        )
    try:
        env = _forkable(env_id, split, **kwargs) if "fork" in kwargs else gymnasium.make(env_id, split=split, **kwargs)
        env = env.unwrapped
    except gymnasium.error.Error as error:
        raise ConfigError(f"env.id: {error}") from error
    except DataError:
        raise
    except (TypeError, ValueError) as error:  # an argument that the environment does not have, or with a wrong value
        said = str(error).split(" was raised from the environment creator")[0]
        raise ConfigError(f"{env_id}: {said}{_fork_hint(env_id, kwargs)}") from error
    if not isinstance(env, TaskEnv):
        kind = "forkable, but has no tasks" if isinstance(env, ForkableEnv) else f"not forkable; {_FORK}"
        raise ConfigError(f"env.id: {env_id} is {kind}: a TaskEnv is needed (see at2po_env/tasks.py)")
    return env


def takes(env_id: str, argument: str) -> bool:
    """Whether the environment of a registered id can be given an argument of this name."""
    try:
        parameters = _parameters(env_id)
    except gymnasium.error.Error:
        # An id without its version: making it says what it does not take.
        return True
    return argument in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _parameters(env_id: str) -> Mapping[str, inspect.Parameter]:
    entry_point = gymnasium.spec(env_id.rpartition(":")[2]).entry_point
    make = gymnasium.envs.registration.load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    return {} if make is None else inspect.signature(make).parameters


_FORK = "env.fork=copy or env.fork=replay make other environments with text spaces so (docs/own_environment.md)"


def _forkable(env_id: str, split: str, *, fork: Any, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """An environment that is a ``TaskEnv`` as it is, any other one as a ``Forkable`` with the wrappers of its id."""
    if _takes_split(env_id):
        kwargs["split"] = split

    def make() -> gymnasium.Env[Any, Any]:
        # Gymnasium's checker insists on spaces that foreign environments often only claim.
        return gymnasium.make(env_id, disable_env_checker=True, **kwargs)

    env = make()
    return env if isinstance(env.unwrapped, TaskEnv) else Forkable.of(make, split, fork)


def _takes_split(env_id: str) -> bool:
    """Whether it names its splits: what takes any keyword hands them on to something that may not."""
    return "split" in _parameters(env_id)


def _fork_hint(env_id: str, kwargs: Mapping[str, Any]) -> str:
    """Advice to add to an error about an environment without splits, which is probably no ``TaskEnv``."""
    return "" if "fork" in kwargs or _takes_split(env_id) else f"; if it is not forkable, {_FORK}"
