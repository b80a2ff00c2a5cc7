"""Games that others published: two of GEM's (``gem-llm``), and TextWorld's (``textworld``), which run in C."""

from __future__ import annotations

import random
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.spaces import Text

needs_gem = pytest.mark.skipif(find_spec("gem") is None, reason="no GEM: install the group games")
needs_textworld = pytest.mark.skipif(
    find_spec("textworld") is None, reason="no TextWorld: install the group games, then textworld and jericho --no-deps"
)


class Gem(gymnasium.Env[str, str]):
    """A game of GEM as a Gymnasium environment, which it is but for the base class and the spaces."""

    def __init__(self, game: str, **kwargs: Any) -> None:
        self.observation_space = self.action_space = Text(10_000)
        self.game = gem_game(game, **kwargs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        observation, info = self.game.reset(seed)
        return observation + info["suffix"], info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.game.step(action)
        return f"{observation}\n{info['suffix']}", reward, terminated, truncated, info


gymnasium.register("Gem-v0", entry_point=Gem)


def gem_game(game: str, **kwargs: Any) -> Any:
    with warnings.catch_warnings():  # of code that is older than the Python that runs it
        warnings.simplefilter("ignore")
        import gem
        import gem.envs  # registers the games
    return gem.make(game, **kwargs)


def write_textworld_games(folder: Path, seeds: range) -> list[str]:
    """Compile games of three rooms in which three commands win."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import textworld
        from textworld.generator import compile_game, make_game

        files = []
        for seed in seeds:
            options = textworld.GameOptions()
            options.seeds, options.nb_rooms, options.nb_objects, options.quest_length = seed, 3, 4, 3
            options.path = str(folder / f"game{seed}.z8")
            files.append(compile_game(make_game(options), options))
    return files


class TextWorld:
    """A player's window on one of TextWorld's games at a time; the interpreter is a library in C."""

    def __init__(self) -> None:
        self.env: Any = None
        self.file, self.score = "", 0

    def reset(self, seed: int | None, options: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
        file = (options or {})["file"]
        if file != self.file:
            self.env, self.file = self._open(file), file
        self.state, self.score = self.env.reset(), 0
        return self.state.objective + self._seen(), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.state, score, done = self.env.step(action)
        gained, self.score = score - self.score, score
        return self._seen(), float(gained), done, False, {}

    def _open(self, file: str) -> Any:
        with warnings.catch_warnings():  # the interpreter does not know the game, and needs not
            warnings.simplefilter("ignore")
            import textworld

            env = textworld.start(file, textworld.EnvInfos(objective=True, policy_commands=True))
        env.seed(0)
        return env

    def _seen(self) -> str:
        return " ".join(self.state.feedback.split("-= ")[-1].split())

    def solution(self) -> list[str]:
        return list(self.state.policy_commands)


def textworld_reset(game: TextWorld, seed: int | None, options: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
    return game.reset(seed, options)


def textworld_step(game: TextWorld, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
    return game.step(action)


def some_actions(seed: int, choices: list[str], length: int) -> list[str]:
    return random.Random(seed).choices(choices, k=length)
