"""``rollout_func`` of TRL's ``GRPOTrainer`` for episodes of turns: by transformers' ``generate`` or by our engine.

TRL gives it the prompts of a batch, each as often as its group has episodes, and trains on what it returns: for each
episode the prompt's ids, the ids after it and a mask that is 0 on what the environment wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from transformers import GenerationConfig

from at2po_agent.method.expansion import Chains
from at2po_agent.method.tree import ROOT, TurnTree
from at2po_agent.rollouts.batch import rollout
from at2po_agent.tasks import run, run_all
from at2po_agent.training.session import Session
from at2po_env.state import plain
from at2po_env.tasks import TaskEnv

Prompt = Sequence[dict[str, str]]  # messages


@dataclass
class Episode:
    """An episode as TRL trains on it."""

    prompt: list[int]
    ids: list[int] = field(default_factory=list)  # all that follows the prompt
    mask: list[int] = field(default_factory=list)  # [len(ids)] 1: the policy's own, 0: an observation
    reward: float = 0.0

    def add(self, ids: Sequence[int], own: bool) -> None:
        """Append a turn of the policy's ``own``, or an observation."""
        self.ids += ids
        self.mask += [int(own)] * len(ids)


class Rollouts(Protocol):
    """A ``rollout_func`` that counts what it samples."""

    tokens: int  # sampled so far

    def __call__(self, prompts: Sequence[Prompt], trainer: Any) -> dict[str, Any]:
        """The columns that TRL asks for."""
        ...


def columns(episodes: Sequence[Episode]) -> dict[str, Any]:
    """What a ``rollout_func`` returns; ``logprobs`` are read only where vLLM samples."""
    return {
        "prompt_ids": [episode.prompt for episode in episodes],
        "completion_ids": [episode.ids for episode in episodes],
        "env_mask": [episode.mask for episode in episodes],
        "logprobs": None,
        "episode_reward": [episode.reward for episode in episodes],
    }


def reward(completions: Sequence[Any], episode_reward: list[float], **_: Any) -> list[float]:
    """The environment's reward of each episode, as a reward function of TRL."""
    return episode_reward


def message(question: str) -> Prompt:
    """A question as the prompt of a row."""
    return [{"role": "user", "content": question}]


def questions_of(env: TaskEnv[Any]) -> dict[str, str]:
    """Task ids by the text of their first prompt: a ``rollout_func`` gets a row's prompt and no other column."""
    env, questions = env.clone(), {}
    for task in env.tasks:
        env.reset(options={"task_id": task})
        questions[plain(env.observation())] = task
    return questions


class TransformersRollout:
    """Sample turn by turn, all episodes that go on as one padded batch, with transformers' ``generate``.

    ``generate`` reads a whole prompt again in every turn. All text becomes ids by TRL's ``processing_class``.
    """

    def __init__(self, session: Session) -> None:
        self._env, self._limits = session.env, session.actor.limits
        self._tokenizer, self._codec = session.codec.tokenizer, session.codec
        self._tasks = questions_of(session.env)
        self.tokens = 0  # sampled so far

    def __call__(self, prompts: Sequence[Prompt], trainer: Any) -> dict[str, Any]:
        """The columns that TRL asks for."""
        return columns(self.play(prompts, trainer.model, trainer.generation_config))

    def play(self, prompts: Sequence[Prompt], model: Any, generation: GenerationConfig) -> list[Episode]:
        """One episode for each prompt."""
        games = [_Game(self._env.clone(), self._begin(prompt)) for prompt in prompts]
        for game, prompt in zip(games, prompts, strict=True):
            game.env.reset(options={"task_id": self._tasks[prompt[-1]["content"]]})
        going = games
        while going:
            turns = self._generate(model, generation, [game.episode.prompt + game.episode.ids for game in going])
            run(run_all(self._step(game, turn) for game, turn in zip(going, turns, strict=True)))
            going = [game for game in going if not game.over]
        return [game.episode for game in games]

    def _begin(self, prompt: Prompt) -> Episode:
        options = {"add_generation_prompt": True, "tokenize": True, "return_dict": False}
        return Episode(self._tokenizer.apply_chat_template(prompt, **options))

    def _generate(self, model: Any, generation: GenerationConfig, prompts: Sequence[list[int]]) -> list[list[int]]:
        width = max(map(len, prompts))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.no_grad():
            sampled = model.generate(ids, attention_mask=mask, generation_config=generation, tokenizer=self._tokenizer)
        return [_without_padding(row, pad) for row in sampled[:, width:].tolist()]

    async def _step(self, game: _Game, turn: list[int]) -> None:
        """Take a sampled turn; the limit of a whole response counts as in ``rollouts.grow``."""
        episode, env, most = game.episode, game.env, self._limits.max_response_tokens
        turn = turn[: most - len(episode.ids)]
        self.tokens += len(turn)
        episode.add(turn, own=True)
        _, gained, terminated, truncated, _ = await env.astep(self._codec.decode_action(turn))
        if not (terminated or truncated):
            observation = self._tokenizer.encode(plain(env.observation()), add_special_tokens=False)
            if len(episode.ids) + len(observation) < most:
                episode.add(observation, own=False)
            else:
                _, gained, terminated, truncated, _ = env.end("length_limit")
        episode.reward += gained
        game.over = terminated or truncated


class EngineRollout:
    """Sample with ``LocalPolicy``: prompts are read once for each group, and every turn goes on from what was read."""

    def __init__(self, session: Session, seed: int) -> None:
        self._session, self._seed, self._step = session, seed, 0
        self._tasks = questions_of(session.env)
        self.tokens = 0  # sampled so far

    def __call__(self, prompts: Sequence[Prompt], trainer: Any) -> dict[str, Any]:
        """The columns that TRL asks for."""
        session, group = self._session, trainer.num_generations
        tasks = [self._tasks[prompt[-1]["content"]] for prompt in prompts[::group]]
        session.engine.publish(trainer.model, self._step)
        key = (self._seed, self._step)
        grown = session.engine.run(rollout(session.env, tasks, session.actor, Chains(group), key=key))
        self._step += 1
        self.tokens += grown.generated_tokens
        # The engine switches to evaluation, in which TRL would neither train nor divide its loss.
        trainer.model.train()
        return columns(episodes_of(grown.trees))


def episodes_of(trees: Iterable[TurnTree]) -> list[Episode]:
    """The trajectories of trees, tree by tree."""
    episodes = []
    for tree in trees:
        for leaf, path in tree.trajectories():
            episode = Episode(list(tree[ROOT].observation), reward=tree[leaf].reward or 0.0)
            for node in path:
                episode.add(tree[node].action, own=True)
                episode.add(tree[node].observation, own=False)
            episodes.append(episode)
    return episodes


def unequal(ours: Sequence[Episode], theirs: Sequence[Episode]) -> list[int]:
    """Which episodes differ in an id that the model reads or writes, in who wrote it, or in the reward."""
    return [n for n, (own, their) in enumerate(zip(ours, theirs, strict=True)) if own != their]


@dataclass
class _Game:
    env: Any
    episode: Episode
    over: bool = False


def _without_padding(ids: list[int], pad: int) -> list[int]:
    """A row of ``generate``: rows that ended before the longest are filled up."""
    end = len(ids)
    while end > 1 and ids[end - 1] == pad:
        end -= 1
    return ids[:end]
