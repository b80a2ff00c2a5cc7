"""A task of one's own, as ``examples/own_task.py`` makes them: questions, passages, and rewards to choose from."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium

from at2po_env.dataset import Dataset
from at2po_env.rules import Rules
from at2po_env.scoring import Outcome
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import Question
from search_backend import EmbeddedIndex
from search_backend.base import Passage

ID = "Own-Task-v0"
IMPORT = "env.imports=[tests.helpers.own_task]"
KEEPERS = {"Gannet Rock": "Amara Quill", "Seal Point": "Bo Tarn", "Otter Head": "Cleo Marsh", "Heron Bar": "Edda Rook"}


def nan_reward(outcome: Outcome) -> float:
    return math.nan


def infinite_reward(outcome: Outcome) -> float:
    return -math.inf


REWARDS = {"nan": nan_reward, "infinite": infinite_reward}


def write_questions(folder: Path, answers: Mapping[str, str]) -> None:
    (folder / "questions.json").write_text(json.dumps(answers))


def build_index(folder: Path, passages: Mapping[str, str]) -> None:
    shutil.rmtree(folder / "index", ignore_errors=True)
    made = [
        Passage(f"p{i}", rock, f"{rock} was kept by {keeper}.") for i, (rock, keeper) in enumerate(passages.items())
    ]
    EmbeddedIndex.build(folder / "index", made).close()


def make(split: str, folder: str, reward: str = "em_or_format", **kwargs: Any) -> SearchQAEnv:
    answers = json.loads(Path(folder, "questions.json").read_text())
    questions = (
        Question(f"q{i}", f"Who kept the light of {rock}?", (keeper,))
        for i, (rock, keeper) in enumerate(answers.items())
    )
    rules = Rules.of(dialect="bare", k=1, reward=REWARDS.get(reward, reward), **kwargs)
    return SearchQAEnv(Dataset.of(questions, "lights", split), EmbeddedIndex.open(Path(folder, "index")), rules)


gymnasium.register(ID, entry_point=f"{__name__}:make")
