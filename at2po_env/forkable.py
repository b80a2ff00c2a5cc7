"""``Forkable``: an environment that somebody else wrote, made forkable by copies or by replay.

.. code-block:: python

    env = Forkable(lambda: gymnasium.make("Their-Game-v0"), how="replay", tasks=500)
    env.reset(options={"task_id": "seed-3"})
    left, right = env.fork(2)
"""

from __future__ import annotations

import inspect
import json
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Self, get_args

import gymnasium

from at2po_env.core import StepResult
from at2po_env.dataset import DataError
from at2po_env.episode_env import EpisodeEnv
from at2po_env.episodes import Episode, EpisodeTurn, action_json
from at2po_env.errors import SnapshotError
from at2po_env.fork_rules import ForkRules, Start, Tasks, starts
from at2po_env.live_games import LOCK, Adapted, Game, LiveGames, check_spaces, deep_copy, name_of
from at2po_env.replay import check_replayed
from at2po_env.snapshots import chain
from at2po_env.state import Text
from at2po_env.tasks import Chat, Task

How = Literal["copy", "replay"]
AnyEnv = gymnasium.Env[Any, Any]


class Forkable(EpisodeEnv):
    """An environment with text spaces, of any origin. An action is the text of one model turn.

    ``copy`` goes on from deep copies of the live environment; it plays again what it has no copy of. ``replay`` always
    plays again: from the same seed, with the same actions, checking that the same observations, rewards and ends
    come. Either way a snapshot is an ``Episode``, so one of ``copy`` can be restored by ``replay``, in another process.
    Steps run one at a time, in the thread of their caller, with the global state of ``random`` and ``numpy.random``
    that belongs to their episode; the caller's own is back when they return.

    Args:
        env: the environment, or a function that makes it. A single one must allow ``copy.deepcopy``.
        how: see above.
        tasks: how many seeds, or which, or reset arguments by task id; see ``fork_rules.starts``.
        rules: how turns are read and written, and limits; ``ForkRules()`` where they are not given.
        split: of the tasks: ``train``, ``dev`` and ``test`` have seeds that differ.
        max_live: how many copies are held at most beside those of open episodes.
        **options: ``order``, ``copies`` and ``render_mode`` of ``TaskEnv``.

    ``info`` holds ``task_id``, ``turns``, ``action`` (kind, content, why), and at the end ``ended``, ``success``,
    ``reward`` (the sum of the episode's) and ``turns``.

    Raises:
        DataError: reset options are not made of JSON values.
        ForkError: the environment has other spaces, or cannot be copied.
    """

    decided_by = "another environment, tasks or rules"

    def __init__(
        self,
        env: AnyEnv | Callable[[], AnyEnv],
        how: How = "copy",
        tasks: Tasks = 1000,
        rules: ForkRules | None = None,
        *,
        split: str = "train",
        max_live: int = 64,
        **options: Any,
    ) -> None:
        if how not in get_args(How):
            raise ValueError(f"how must be one of {get_args(How)}, got {how!r}")
        if isinstance(max_live, bool) or not isinstance(max_live, int) or max_live < 1:
            raise ValueError(f"max_live must be a whole number of at least 1, got {max_live!r}")
        self._starts = starts(tasks, split)
        # Its name is known when a game is there.
        super().__init__(list(self._starts), "", split, **options)
        self.how = how
        self.rules = ForkRules() if rules is None else rules
        self.stop = self.rules.stop
        self.chat = Chat(self.rules.stop) if self.rules.as_messages else None
        self._games = LiveGames(partial(deep_copy, env) if isinstance(env, gymnasium.Env) else env, max_live)
        # Who is where a snapshot was taken: its game is copied for others who want to go on from there.
        self._offers: weakref.WeakValueDictionary[str, Forkable] = weakref.WeakValueDictionary()
        self._game: Game | None = None
        self._inspect()

    def _inspect(self) -> None:
        """Make one game, see whether it can be forked, and take its name and its limit of turns."""
        game = self._games.take()
        check_spaces(game.env)
        if self.how == "copy":
            game.copy()
        self.name = name_of(game.env)
        spec = game.env.spec
        steps = None if spec is None else spec.max_episode_steps
        arguments = {} if spec is None else {**spec.kwargs, "max_episode_steps": steps}
        turns = [limit for limit in (self.rules.max_turns, steps) if limit is not None]
        self.limits = {"max_turns": min(turns, default=None), "on_malformed": self.rules.on_malformed}
        self._games.give_back(game)
        try:
            starts = {task_id: start.to_json() for task_id, start in self._starts.items()}
            self._tasks_digest = chain("starts", json.dumps(starts, sort_keys=True, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.name}: reset options must be made of JSON values: {error}") from error
        self._rules_digest = chain(
            "forkable", self.name, json.dumps(arguments, sort_keys=True, default=_kind), self.rules.digest
        )

    @classmethod
    def adapt(
        cls,
        env: Any,
        *,
        reset: Callable[[Any, int | None, dict[str, Any] | None], tuple[str, dict[str, Any]]],
        step: Callable[[Any, str], tuple[str, float, bool, bool, dict[str, Any]]],
        **rest: Any,
    ) -> Self:
        """Make an object of any other kind forkable.

        Args:
            env: the object, or a function or class that makes it.
            reset: ``reset(env, seed, options)`` begins an episode and returns the observation and an info.
            step: ``step(env, action)`` returns observation, reward, terminated, truncated and an info. The reward is
                that of the turn, not a score so far.
            **rest: as for ``Forkable``.
        """
        if inspect.isroutine(env) or inspect.isclass(env) or isinstance(env, partial):
            return cls(lambda: Adapted(env(), reset, step), **rest)
        return cls(Adapted(env, reset, step), **rest)

    @classmethod
    def of(cls, env: AnyEnv | Callable[[], AnyEnv], split: str, fork: str | Mapping[str, Any]) -> Self:
        """From plain values, as configurations give them.

        Args:
            env: as for ``Forkable``.
            split: as for ``Forkable``.
            fork: ``how``, or a mapping with ``how``, ``tasks``, ``max_live``, ``order``, ``copies`` and the fields of
                ``ForkRules``.

        Raises:
            ValueError: a key is unknown, or a value is out of its range.
        """
        if not isinstance(fork, str | Mapping):
            raise ValueError(f"fork must be copy, replay or a mapping with how, tasks, tag, …, got {fork!r:.80}")
        given = {"how": fork} if isinstance(fork, str) else dict(fork)
        own: dict[str, Any] = {
            key: given.pop(key) for key in ("how", "tasks", "max_live", "order", "copies") if key in given
        }
        return cls(env, rules=ForkRules.of(**given), split=split, **own)

    def begin(self, task_id: str) -> None:
        """Start an episode of a task."""
        self._start(task_id)
        with LOCK:
            self._leave()
            game = self._games.take()
            self._stand(self._begun(task_id, game), game)

    def read_action(self, text: str) -> dict[str, Any]:
        """Parse a turn by the rules."""
        return self.rules.read(text).to_json()

    def _start(self, task_id: str) -> Start:
        if task_id not in self._starts:
            raise KeyError(f"{self.name} {self.split} has no task with id {task_id!r}")
        return self._starts[task_id]

    def _begun(self, task_id: str, game: Game) -> Episode:
        """Reset a game; the episode that begins."""
        start = self._start(task_id)
        stored = json.dumps(start.to_json(), sort_keys=True)
        entropy = int(chain("global random", task_id, stored)[:16], 16)
        prompt = game.reset(start.seed, start.to_json()["options"], entropy)
        return Episode.begin(task_id, self._rules_digest, {"start": start.to_json(), "observation": prompt})

    def task(self, task_id: str) -> Task:
        """A description of the task: how it is reset."""
        return Task(task_id, f"{self.name}: {self._start(task_id)}")

    def manifest(self) -> dict[str, Any]:
        """The tasks, the environment, and how it is forked and talked to."""
        return {
            "dataset": self._dataset(),
            "fork": self.how,
            "dialect": {"name": "forkable", "digest": self.rules.digest},
            "rules": {**self.rules.to_json(), "digest": self._rules_digest},
        }

    def step(self, action: str) -> StepResult:
        """Take one turn.

        What the environment itself raises leaves the episode as it was: the next step plays it again first.

        Raises:
            ResetNeeded: there is no episode, or it has ended.
            ForkError: the environment cannot be copied any more, or its observation is no text.
            ReplayDiverged: the episode was to be played again, and went another way.
        """
        text, episode = self._turn(action), self.episode
        with LOCK:
            game = self._live_at(episode) if self._game is None else self._game
            if self._offered():
                self._games.keep(episode.digest, game.copy())
            # Until the turn is over, the game stands nowhere.
            self._game = None
            self._stand(self._after(episode, game, text), game)
        assert self.episode.turn is not None
        return self._stepped(self.episode.turn.reward)

    async def astep(self, action: str) -> StepResult:
        """``step``. It runs in the loop's thread, as nothing else may draw from the global generators meanwhile."""
        return self.step(action)

    def _offered(self) -> bool:
        """Whether others rely on this game to go on from the current episode; from now on they do not."""
        if self._episode is None or self._offers.get(self._episode.digest) is not self:
            return False
        del self._offers[self._episode.digest]
        return self._game is not None and self._episode.digest not in self._games

    def _leave(self) -> None:
        """Give up the game of the current episode, for others to go on from or to begin another one with."""
        offered, game, self._game = self._offered(), self._game, None
        if game is not None and offered:
            self._games.keep(self.episode.digest, game)
        elif game is not None:
            self._games.give_back(game)

    def _after(self, episode: Episode, game: Game, text: str) -> Episode:
        """The episode after one more turn, which the game takes."""
        read = self.rules.read(text)
        seen, reward, ended = read.why or "", 0.0, None
        if read.kind == "action":
            seen, reward, terminated, truncated = game.step(read.content or "")
            ended = "done" if terminated else "truncated" if truncated else None
        elif self.rules.on_malformed == "end":
            seen, ended = "", "malformed"
        if ended is None and self.rules.max_turns is not None and episode.depth + 1 >= self.rules.max_turns:
            ended = "turn_limit"
        observation = () if ended == "malformed" else self.rules.observation(seen, read.kind)
        scores = None if ended is None else self._scores(episode, reward, episode.depth + 1)
        turn = EpisodeTurn(text, action_json(read.to_json()), observation, reward)
        return episode.after(turn, None, ended, scores)

    def _scores(self, episode: Episode, reward: float, turns: int) -> dict[str, float]:
        total = sum(turn.reward for turn in episode.turns()) + reward
        return {"success": float(total >= self.rules.success), "reward": total, "turns": float(turns)}

    def _stand(self, episode: Episode, game: Game | None) -> None:
        """Make an episode the current one; its game is given back where it has ended."""
        self._episode = episode
        self._game = game
        if game is not None and episode.ended is not None:
            self._game = None
            self._games.give_back(game)

    def end(self, reason: str) -> StepResult:
        """End the episode from outside: truncated, with no further reward.

        Args:
            reason: ``length_limit`` (no room to generate) or ``turn_limit``.
        """
        episode = self._closing(reason)
        with LOCK:
            self._stand(episode.close(reason, 0.0, self._scores(episode, 0.0, episode.depth)), self._game)
        return self._stepped(0.0)

    def observation(self) -> Text:
        """The text for the model: the prompt, or the observation of the last turn."""
        episode = self.episode
        if episode.turn is None:
            return self.rules.prompt(json.loads(episode.state)["observation"])
        return self.rules.placed(episode.turn.observation)

    def snapshot(self) -> Episode:
        """The current episode. Taking it costs a reference; a copy is made when it is needed."""
        if self.how == "copy" and self._game is not None:
            self._offers.setdefault(self.episode.digest, self)
        return self.episode

    def restore(self, snapshot: Episode) -> None:
        """Continue from ``snapshot``, taken here or in any ``Forkable`` of an equal environment with equal rules.

        Raises:
            SnapshotError: it was taken in another environment, or was changed.
            ReplayDiverged: it was played again, and went another way.
        """
        self._check_snapshot(snapshot)
        with LOCK:
            if self._game is not None and self.episode == snapshot:
                return
            self._leave()
            # What was read from JSON is played even where it has ended: only that shows that it can have happened.
            over = snapshot.played and snapshot.ended is not None
            game = None if over else self._live_at(snapshot)
            self._stand(replace(snapshot, played=True), game)

    def _live_at(self, episode: Episode) -> Game:
        """A game that stands where the episode does: a copy, or played again from the latest one that there is.

        Raises:
            ReplayDiverged: the environment does something else than it did.
            SnapshotError: the episode's end is not what its turns say.
        """
        *later, first = episode.lineage()
        game, now = None, first
        for place, node in enumerate((*later, first)):
            if (game := self._copy_at(node)) is not None:
                later, now = later[:place], node
                break
        if game is None:
            game = self._games.take()
            now = self._begun(first.task_id, game)
            self._check(now, first)
        for node in reversed(later):
            assert node.turn is not None
            now = self._after(now, game, node.turn.text)
            self._check(now, node)
        if episode.closed is not None:
            now = now.close(str(episode.ended), 0.0, self._scores(now, 0.0, now.depth))
        if now != episode:
            raise SnapshotError(
                f"the snapshot of task {episode.task_id!r} ends in a way that its turns do not: it was changed"
            )
        return game

    def _copy_at(self, episode: Episode) -> Game | None:
        if self.how == "replay":
            return None
        owner = self._offers.get(episode.digest)
        if owner is not None and owner._game is not None and owner.episode == episode:
            return owner._game.copy()
        return self._games.copy_at(episode.digest)

    def _check(self, now: Episode, then: Episode) -> None:
        check_replayed(
            now,
            then,
            f"{self.name}, task {then.task_id!r}",
            "To be replayed, the environment must be a function of its seed, its options and the actions; how='copy' "
            "replays what it holds no copy of (max_live), and what was stored",
        )

    @property
    def live(self) -> int:
        """The number of games held beside those of open episodes: copies to go on from, and idle ones."""
        return len(self._games)

    def clone(self) -> Self:
        """A new environment over the same tasks and the same held copies, not yet reset."""
        env = super().clone()
        env._game = None
        return env

    def close(self) -> None:
        """Close the environment of this episode, and all that are held for it and its clones."""
        game, self._game, self._episode = self._game, None, None
        if game is not None:
            game.env.close()
        self._games.close()


def _kind(value: object) -> str:
    """The name of a non-JSON argument's type for a digest: an address in memory would differ every time."""
    return f"{type(value).__module__}.{type(value).__qualname__}"
