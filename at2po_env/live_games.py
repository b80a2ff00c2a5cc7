"""Live environments of others, each with the global random state of its episode, and copies of them by digest."""

from __future__ import annotations

import copy
import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Text as TextSpace

from at2po_env.core import StepResult
from at2po_env.errors import ForkError
from at2po_env.spaces import UnicodeText
from search_backend.outside import well_formed

LOCK = threading.RLock()
"""Held while the global random state is an episode's: two threads would draw from each other's."""


@dataclass(frozen=True, eq=False)
class GlobalRandom:
    """The state of the generators behind the modules ``random`` and ``numpy.random``."""

    python: tuple[Any, ...]
    numpy: dict[str, Any]

    @classmethod
    def now(cls) -> GlobalRandom:
        """As it is in this process."""
        return cls(random.getstate(), np.random.get_state(legacy=False))

    def install(self) -> None:
        """Make it the state of this process."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)

    def same(self, other: GlobalRandom) -> bool:
        """Whether nothing was drawn between the two."""
        one, two = self.numpy, other.numpy
        drawn = (one["state"]["pos"], one["has_gauss"]) != (two["state"]["pos"], two["has_gauss"])
        return not drawn and self.python == other.python and np.array_equal(one["state"]["key"], two["state"]["key"])


class Game:
    """One live environment. Whatever its episode draws from the global generators is drawn from a state of its own."""

    def __init__(self, make: Callable[[], gymnasium.Env[Any, Any]]) -> None:
        self._random = _seeded(0)
        with self._swapped():
            self.env = make()

    @contextmanager
    def _swapped(self) -> Iterator[None]:
        with LOCK:
            outside = GlobalRandom.now()
            self._random.install()
            try:
                yield
            finally:
                after = GlobalRandom.now()
                # Most games draw nothing: their copies then share one state instead of 30 kB each.
                self._random = self._random if after.same(self._random) else after
                outside.install()

    def reset(self, seed: int | None, options: Mapping[str, Any] | None, entropy: int) -> str:
        """Begin an episode and return its first observation.

        Args:
            seed: passed to the environment.
            options: passed to the environment where there are some.
            entropy: seeds the global generators.

        Raises:
            ForkError: the observation is no text.
        """
        self._random = _seeded(entropy)
        with self._swapped():
            observation, _ = self.env.reset(seed=seed, **({} if options is None else {"options": dict(options)}))
        return _text(observation, self.env, "reset")

    def step(self, action: str) -> tuple[str, float, bool, bool]:
        """Take one turn; the observation, the reward, and whether the episode terminated or was truncated.

        Raises:
            ForkError: the observation is no text.
        """
        with self._swapped():
            observation, reward, terminated, truncated, _ = self.env.step(action)
        return _text(observation, self.env, "step"), float(reward), bool(terminated), bool(truncated)

    def copy(self) -> Game:
        """An equal game that shares nothing with this one but what its environment's ``__deepcopy__`` shares.

        Raises:
            ForkError: the environment cannot be copied.
        """
        twin = copy.copy(self)
        twin.env = deep_copy(self.env)
        return twin


class LiveGames:
    """The games of a ``Forkable`` and all of its clones: idle ones to begin with, and copies to go on from.

    Args:
        make: makes a new environment.
        limit: how many of both are held at most.
    """

    def __init__(self, make: Callable[[], gymnasium.Env[Any, Any]], limit: int) -> None:
        self._make, self._limit = make, limit
        self._idle: list[Game] = []
        self._copies: OrderedDict[str, Game] = OrderedDict()

    def __len__(self) -> int:
        return len(self._copies) + len(self._idle)

    def __contains__(self, digest: str) -> bool:
        return digest in self._copies

    def take(self) -> Game:
        """A game to begin an episode with."""
        return self._idle.pop() if self._idle else Game(self._make)

    def give_back(self, game: Game) -> None:
        """Return a game whose episode is over."""
        if len(self) < self._limit:
            self._idle.append(game)

    def keep(self, digest: str, game: Game) -> None:
        """Hold a game that stands at an episode; the one that was used longest ago makes room."""
        self._copies[digest] = game
        self._copies.move_to_end(digest)
        if len(self) > self._limit and self._idle:
            self._idle.pop()
        elif len(self) > self._limit:
            self._copies.popitem(last=False)

    def copy_at(self, digest: str) -> Game | None:
        """A copy of the game that is held at an episode, where there is one."""
        if digest not in self._copies:
            return None
        self._copies.move_to_end(digest)
        return self._copies[digest].copy()

    def close(self) -> None:
        """Close every game that is held here."""
        for game in (*self._copies.values(), *self._idle):
            game.env.close()
        self._copies.clear()
        self._idle.clear()


class Adapted(gymnasium.Env[str, str]):
    """An object of any kind behind the methods of Gymnasium."""

    def __init__(self, adapted: Any, reset: Callable[..., Any], step: Callable[..., Any]) -> None:
        self.observation_space = self.action_space = UnicodeText()
        self.adapted, self._reset, self._step = adapted, reset, step

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin an episode by the function that was given for it."""
        observation: tuple[str, dict[str, Any]] = self._reset(self.adapted, seed, options)
        return observation

    def step(self, action: str) -> StepResult:
        """Take one turn by the function that was given for it."""
        result: StepResult = self._step(self.adapted, action)
        return result

    def close(self) -> None:
        """Close the object, where it can be closed."""
        close = getattr(self.adapted, "close", None)
        if close is not None:
            close()


def deep_copy(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """A deep copy of an environment.

    Raises:
        ForkError: it has a part that cannot be copied.
    """
    try:
        return copy.deepcopy(env)
    except Exception as error:  # whatever a foreign __deepcopy__ or __reduce__ raises
        said = f"{type(error).__name__}: {error}"[:200]
        raise ForkError(
            f"{name_of(env)} cannot be copied ({said}): use how='replay', and give Forkable a function that makes the "
            "environment instead of an environment"
        ) from error


def check_spaces(env: gymnasium.Env[Any, Any]) -> None:
    """Check that an environment is played in text, or says so.

    Raises:
        ForkError: its actions or observations are something else.
    """
    spaces = {name: getattr(env, name, None) for name in ("observation_space", "action_space")}
    other = [f"{name}={space}" for name, space in spaces.items() if not isinstance(space, TextSpace | UnicodeText)]
    if other:
        raise ForkError(
            f"{name_of(env)} has {' and '.join(other)}, and Forkable needs text: give it functions that read and write "
            "text, as Forkable.adapt(env, reset=…, step=…)"
        )


def name_of(env: gymnasium.Env[Any, Any]) -> str:
    """The environment's Gymnasium id, or the name of its class where it has none."""
    if env.spec is not None:
        return env.spec.id
    kind = type(getattr(env.unwrapped, "adapted", env.unwrapped))
    return f"{kind.__module__}.{kind.__qualname__}"


def _seeded(entropy: int) -> GlobalRandom:
    words = np.random.MT19937(entropy).state
    numpy = {**words, "has_gauss": 0, "gauss": 0.0}
    return GlobalRandom(random.Random(entropy).getstate(), numpy)


def _text(observation: Any, env: gymnasium.Env[Any, Any], call: str) -> str:
    if not isinstance(observation, str):
        raise ForkError(
            f"{name_of(env)}: its {call} gave an observation of type {type(observation).__name__}, and Forkable needs "
            "text: translate it, as Forkable.adapt(env, reset=…, step=…)"
        )
    return well_formed(observation)
