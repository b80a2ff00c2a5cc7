from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from at2po_agent.method.expansion import Chains
from at2po_agent.rollouts.grow import Actor, Encoder, grow
from at2po_agent.warmstart.demonstrations import Scribe, play_all
from at2po_agent.warmstart.imitation import Demonstration
from at2po_env.dataset import Dataset
from at2po_env.rules import Rules
from at2po_env.scripts import play
from at2po_env.search_qa import SearchQAEnv
from at2po_env.search_teacher import SearchTeacher
from at2po_env.state import Question
from at2po_env.tasks import TaskEnv
from at2po_env.tool_env import ToolEnv
from at2po_env.tool_rules import ToolRules, ToolTask
from search_backend.base import Passage
from search_backend.embedded.backend import EmbeddedIndex
from tests.helpers.toys import Bytes, OpensThoughts, Recites

QUESTIONS = [
    Question("a", "Who is king where Oslo lies?", ("Harald",), ("Oslo", "Norway")),
    Question("b", "Where does Lima lie?", ("Peru",), ("Lima",)),
    Question("c", "Where does Oslo lie?", ("Norway",), ("Oslo",)),
]
PASSAGES = [
    Passage("p0", "Oslo", "Oslo lies in Norway."),
    Passage("p1", "Norway", "The king of Norway is Harald."),
    Passage("p2", "Lima", "Lima lies in Peru."),
]
END = 0


@pytest.fixture
def env(tmp_path: Path) -> Iterator[SearchQAEnv]:
    index = EmbeddedIndex.build(tmp_path / "index", PASSAGES)
    with_index = SearchQAEnv(Dataset.of(QUESTIONS), index, Rules.of(k=1))
    yield with_index
    with_index.search.close()


def demonstrated(env: TaskEnv[Any], task_id: str, encoder: Encoder) -> Demonstration:
    play(env, task_id, SearchTeacher(), np.random.default_rng(0))
    return Scribe(encoder, END).write_down(env, context_weight=0.25)


def test_a_demonstration_is_id_for_id_the_rollout_of_a_policy_that_writes_the_teachers_turns(env: SearchQAEnv) -> None:
    made, state = demonstrated(env, "a", Bytes()), env.state

    env.reset(options={"question_id": "a"})
    turns = [turn.text for turn in state.turns()]
    tree = asyncio.run(grow(env, Actor(Recites(turns), Bytes()), Chains(1)))
    leaf = tree.leaves[0]
    assert made.ids == (*tree.prompt_ids(leaf), END)
    assert state.ended == "answer" and tree[leaf].info["em"] == 1.0
    written = [id_ for id_, weight in zip(made.ids, made.weights, strict=True) if weight == 1.0]
    assert bytes(written[:-1]).decode() == "<search> Oslo</search><search> Norway</search><answer> Harald</answer>"
    assert set(made.weights) == {0.25, 1.0}


def test_an_episode_that_a_tool_ends_is_written_down_up_to_its_last_turn() -> None:
    def stop() -> str:
        """Stop."""
        return "stopped"

    env = ToolEnv([stop], [ToolTask("t", "Stop.")], lambda end: 1.0, ToolRules.of("bare", ends=("stop",)))
    play(env, "t", lambda env, rng: lambda: "<stop></stop>", np.random.default_rng(0))
    made = Scribe(Bytes(), END).write_down(env, context_weight=0.25)
    assert bytes(made.ids[:-1]).decode() == "Stop.<stop></stop>"


def test_every_task_comes_once_a_round_and_each_round_in_another_order(env: SearchQAEnv) -> None:
    tasks = [replace(QUESTIONS[i % 3], id=f"{i}") for i in range(15)]
    many = SearchQAEnv(Dataset.of(tasks), env.search, env.rules)
    ids = [task_id for task_id, _ in play_all(many, SearchTeacher(), 45, seed=(3,))]
    rounds = [ids[start : start + 15] for start in (0, 15, 30)]
    assert all(sorted(round_) == sorted(many.tasks) for round_ in rounds)
    assert rounds[0] != rounds[1] != rounds[2]


def test_the_same_seed_plays_the_same_episodes_and_another_seed_others(env: SearchQAEnv) -> None:
    def played(seed: int) -> list[tuple[str, str]]:
        episodes = play_all(env, SearchTeacher(random_keyword=0.5), 20, (seed,))
        return [(task_id, env.state.digest) for task_id, _ in episodes]

    assert played(1) == played(1) != played(2)


@pytest.mark.fault("C: a thought that the chat template opened, in training")
@pytest.mark.parametrize("require_think", [False, True])
def test_a_demonstration_closes_the_thought_that_its_prompt_opened(env: SearchQAEnv, require_think: bool) -> None:
    own = SearchQAEnv(env.dataset, env.search, Rules.of(k=1, require_think=require_think))
    made = demonstrated(own, "b", OpensThoughts())
    text = bytes(made.ids[:-1]).decode()
    assert "<think>\n </think><search> Lima</search>" in text if require_think else "<think>\n</think><search>" in text
