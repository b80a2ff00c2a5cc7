from __future__ import annotations

import numpy as np

from at2po_env.dataset import Dataset
from at2po_env.scripts import play
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import Question
from tests.helpers.env_doubles import FakeSearch

UNPLANNED = Question("q", "Where is Aa?", ("Bb",))
PLANNED = Question("q", "Where is Aa?", ("Bb",), metadata={"plan": ["aa"], "passages": ["0"]})


def test_guessers_never_search() -> None:
    env = SearchQAEnv(Dataset.of([UNPLANNED]), FakeSearch())
    (guessing,) = env.baselines(env)
    scores = {}
    for name, player in guessing.players.items():
        info = play(env, "q", player, np.random.default_rng(0))
        assert info["searches"] == 0
        scores[name] = info["em"]
    assert scores["always 'Bb'"] == 1 and scores["name 0 in the question"] == 0


def test_there_is_an_oracle_where_every_question_has_a_plan() -> None:
    env = SearchQAEnv(Dataset.of([PLANNED]), FakeSearch())
    (_, oracle) = env.baselines(env)
    info = play(env, "q", oracle.players["oracle"], np.random.default_rng(0))
    assert (oracle.name, info["searches"]) == ("oracle", 1)
