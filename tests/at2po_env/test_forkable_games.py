"""``Forkable`` on games of GEM and TextWorld."""

from __future__ import annotations

import gymnasium
import pytest

from at2po_env import Forkable, ForkError
from at2po_env.testing import TaskContract
from tests.helpers.real_games import (
    Gem,
    TextWorld,
    gem_game,
    needs_gem,
    needs_textworld,
    some_actions,
    textworld_reset,
    textworld_step,
    write_textworld_games,
)

MOVES = [f"\\boxed{{{move}}}" for move in ("up", "down", "left", "right")]


class GemContract(TaskContract):
    how = "copy"

    def make_env(self) -> Forkable:
        def make() -> gymnasium.Env:
            return gymnasium.make("Gem-v0", disable_env_checker=True, game="game:GuessTheNumber-v0-hard")

        return Forkable(make, self.how, tasks=20)

    def actions(self) -> list[str]:
        return ["<think>the middle</think> \\boxed{25}", "\\boxed{26}", "I give up"]

    def other_actions(self) -> list[str]:
        return ["\\boxed{48}", "\\boxed{49}", "no"]


@needs_gem
class TestGemByCopy(GemContract):
    pass


@needs_gem
class TestGemByReplay(GemContract):
    how = "replay"


@needs_gem
@pytest.mark.parametrize("how", ["copy", "replay"])
def test_a_game_that_draws_at_every_move_is_forked(how) -> None:
    """2048 puts a tile on the board after every move, drawn from the module ``random``."""
    env = Forkable(lambda: Gem("game:Game2048-v0-easy"), how, tasks=5)
    env.reset(options={"task_id": "seed-3"})
    past, future = some_actions(1, MOVES, 6), some_actions(2, MOVES, 12)
    for action in past:
        env.step(action)
    one, two = env.fork(2)
    expected = [one.step(action) for action in future]
    for action in reversed(future):
        env.step(action)
    assert [two.step(action) for action in future] == expected
    assert len({step[0] for step in expected}) > 4


@needs_gem
def test_a_game_is_played_as_it_is_and_adapted() -> None:
    def reset(game, seed, options):
        return game.reset(seed)

    def step(game, action):
        return game.step(action)

    env = Forkable.adapt(
        lambda: gem_game("game:GuessTheNumber-v0-easy"), reset=reset, step=step, how="replay", tasks=[4]
    )
    prompt, _ = env.reset()
    assert prompt.startswith("You are playing Guess The Number.")
    for guess in range(1, 5):
        observation, reward, *_ = env.fork(1)[0].step(f"\\boxed{{{guess}}}")
        assert "the target number is" in observation or reward == 1.0
    assert env.name == "gem.envs.game_env.guess_the_number.GuessTheNumberEnv"


@pytest.fixture(scope="module")
def games(tmp_path_factory) -> list[str]:
    return write_textworld_games(tmp_path_factory.mktemp("textworld"), range(3, 4))


def textworld(games: list[str], how: str) -> Forkable:
    tasks = {f"game {n}": {"options": {"file": file}} for n, file in enumerate(games)}
    return Forkable.adapt(TextWorld, reset=textworld_reset, step=textworld_step, how=how, tasks=tasks)


@needs_textworld
class TestTextWorldByReplay(TaskContract):
    @pytest.fixture(autouse=True)
    def _games(self, games: list[str]) -> None:
        self.games = games

    def make_env(self) -> Forkable:
        return textworld(self.games, "replay")

    def actions(self) -> list[str]:
        return ["go east", "take type X latchkey", "unlock type X box with type X latchkey"]

    def other_actions(self) -> list[str]:
        return ["inventory", "look"]


@needs_textworld
def test_a_game_in_c_is_won_on_one_fork_and_not_on_the_other(games: list[str]) -> None:
    env = textworld(games, "replay")
    game = TextWorld()
    game.reset(None, {"file": games[0]})
    *first, last = game.solution()
    env.reset(options={"task_id": "game 0"})
    for action in first:
        env.step(action)
    won, lost = env.fork(2)
    assert won.step(last)[1:3] == (1.0, True) and won.info()["success"] == 1.0
    assert lost.step("look")[1:3] == (0.0, False)


@needs_textworld
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function JerichoEnv")  # of the half of a copy
def test_a_game_in_c_cannot_be_copied_and_says_what_can_be_done(games: list[str]) -> None:
    env = textworld(games, "copy")
    env.reset()
    with pytest.raises(ForkError, match=r"TextWorld cannot be copied \(ValueError: ctypes.*how='replay'"):
        env.fork(2)
