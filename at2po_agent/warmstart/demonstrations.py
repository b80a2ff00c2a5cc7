"""Episodes that a teacher plays in the real environment, written down as the ids that a policy would have seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from at2po_agent.rollouts.grow import Encoder
from at2po_agent.warmstart.imitation import Demonstration
from at2po_agent.warmstart.teacher import Script, Teacher
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import EpisodeState, Question, Segment


def begin_all(
    questions: Sequence[Question], teacher: Teacher, episodes: int, seed: tuple[int, ...]
) -> Iterator[tuple[Question, Script]]:
    """Yield ``episodes`` episodes to play: all questions in a random order, again and again in new orders.

    Episode ``i``'s question and the teacher's choices in it depend on ``(seed, i)`` only.
    """
    for number in range(episodes):
        round_, position = divmod(number, len(questions))
        if position == 0:
            order = np.random.default_rng((*seed, round_)).permutation(len(questions))
        question = questions[order[position]]
        yield question, teacher.begin(question, np.random.default_rng((*seed, round_, position)))


def play(env: SearchQAEnv, question: Question, script: Script) -> EpisodeState:
    """Play one episode to its end."""
    env.reset(options={"question_id": question.id})
    while env.snapshot().ended is None:
        env.step(env.dialect.write(script(env.snapshot().turns())))
    return env.snapshot()


def write_down(
    env: SearchQAEnv, state: EpisodeState, encoder: Encoder, *, context_weight: float, end_id: int
) -> Demonstration:
    """The ids of a rollout in which the policy wrote this episode's turns.

    Args:
        env: the environment that it was played in.
        state: the end of the episode.
        encoder: see ``rollouts.grow.Encoder``.
        context_weight: of the loss of what the policy reads; what it writes weighs 1.
        end_id: the end-of-sequence token, which the policy writes after the last turn.
    """
    read = encoder.prompt(env.dialect.prompt(state.question.question))
    pieces = [(read, context_weight)]
    for turn in state.turns():
        written = _after(encoder.opened_thought(read), turn.text)
        pieces.append((encoder.observation((Segment(written, data=False),)), 1.0))
        read = encoder.observation(turn.observation)
        pieces.append((read, context_weight))
    pieces.append(((end_id,), 1.0))
    return Demonstration(
        ids=tuple(i for ids, _ in pieces for i in ids),
        weights=tuple(weight for ids, weight in pieces for _ in ids),
    )


def _after(opened: str, turn: str) -> str:
    """What is left to write of a turn whose prompt has opened its thought."""
    tag = opened.strip()
    if not tag:
        return turn
    return turn.removeprefix(tag) if turn.startswith(tag) else tag.replace("<", "</") + turn
