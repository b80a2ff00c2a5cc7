from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from at2po_agent.method.expansion import Chains
from at2po_agent.rollouts.grow import Actor, grow
from at2po_agent.warmstart.demonstrations import begin_all, play, write_down
from at2po_agent.warmstart.teacher import ScriptedTeacher, TeacherConfig
from at2po_env.dataset import Dataset
from at2po_env.rules import Rules
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import Action, Question
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


def begin(question: Question):  # type: ignore[no-untyped-def]
    return next(iter(begin_all([question], ScriptedTeacher(TeacherConfig()), 1, (0,))))[1]


def test_a_demonstration_is_id_for_id_the_rollout_of_a_policy_that_writes_the_teachers_turns(env: SearchQAEnv) -> None:
    state = play(env, QUESTIONS[0], begin(QUESTIONS[0]))
    made = write_down(env, state, Bytes(), context_weight=0.25, end_id=END)

    env.reset(options={"question_id": "a"})
    turns = [turn.text for turn in state.turns()]
    tree = asyncio.run(grow(env, Actor(Recites(turns), Bytes()), Chains(1)))
    leaf = tree.leaves[0]
    assert made.ids == (*tree.prompt_ids(leaf), END)
    assert state.ended == "answer" and tree[leaf].info["em"] == 1.0
    written = [id_ for id_, weight in zip(made.ids, made.weights, strict=True) if weight == 1.0]
    assert bytes(written[:-1]).decode() == "<search> Oslo</search><search> Norway</search><answer> Harald</answer>"
    assert set(made.weights) == {0.25, 1.0}


def test_every_question_comes_once_a_round_and_each_round_in_another_order() -> None:
    ids = [question.id for question, _ in begin_all(QUESTIONS * 5, ScriptedTeacher(TeacherConfig()), 45, seed=(3,))]
    rounds = [ids[start : start + 15] for start in (0, 15, 30)]
    assert all(Counter(round_) == {"a": 5, "b": 5, "c": 5} for round_ in rounds)
    assert rounds[0] != rounds[1] != rounds[2]


def test_the_same_seed_plays_the_same_episodes_and_another_seed_others() -> None:
    teacher = ScriptedTeacher(TeacherConfig(stop_early=0.5))

    def first(seed: int) -> list[tuple[str, Action]]:
        return [(question.id, script([])) for question, script in begin_all(QUESTIONS, teacher, 20, (seed,))]

    assert first(1) == first(1) != first(2)


@pytest.mark.fault("C: a thought that the chat template opened, in training")
@pytest.mark.parametrize("require_think", [False, True])
def test_a_demonstration_closes_the_thought_that_its_prompt_opened(env: SearchQAEnv, require_think: bool) -> None:
    own = SearchQAEnv(env.dataset, env.search, Rules.of(k=1, require_think=require_think))
    state = play(own, QUESTIONS[1], begin(QUESTIONS[1]))
    made = write_down(own, state, OpensThoughts(), context_weight=0.25, end_id=END)
    text = bytes(made.ids[:-1]).decode()
    assert "<think>\n </think><search> Lima</search>" in text if require_think else "<think>\n</think><search>" in text
