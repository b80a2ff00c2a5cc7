"""Train on your own task: your questions and passages as JSON lines, your reward, the same training loop.

Run it as it is: it writes a little task about rocks with lighthouses into a temporary folder and trains eight steps on
it, half a minute on a CPU. Every rock has two passages. The policy knows the words of another task, so at first it
often finds who climbed the rock, answers that, and needs two searches. It learns words that find the keeper, and to
search once; the last lines show exact match before and after.
For your own, replace the two files and ``brevity_reward``.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import gymnasium

import at2po_agent as at2po
from at2po_env.dataset import Dataset
from at2po_env.rules import Rules
from at2po_env.scoring import Outcome
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import Question
from search_backend import build_or_open
from search_backend.corpus import read_passages

# rock: (who kept its light, who climbed it first)
ROCKS = {
    "Zuwik": ("Nobak", "Fadom"),
    "Pragim": ("Supak", "Kokul"),
    "Gowal": ("Mutul", "Lemus"),
    "Tuwen": ("Zuvel", "Selem"),
    "Vemak": ("Dufal", "Sukul"),
    "Bevon": ("Vikul", "Lazin"),
    "Felin": ("Gonek", "Mubak"),
    "Virel": ("Koyan", "Tonor"),
    "Menal": ("Havur", "Poron"),
    "Fabak": ("Radak", "Gomir"),
    "Luwen": ("Borak", "Suhal"),
    "Dumel": ("Vofal", "Fepod"),
}


def write_task(folder: Path) -> None:
    """``questions.jsonl`` with id, question and answers; ``passages.jsonl`` with id, title and text."""
    with (
        open(folder / "questions.jsonl", "w", encoding="utf-8") as questions,
        open(folder / "passages.jsonl", "w", encoding="utf-8") as passages,
    ):
        for i, (rock, (keeper, climber)) in enumerate(ROCKS.items()):
            question = {"id": f"q{i}", "question": f"Who is the keeper of {rock}?", "answers": [keeper]}
            questions.write(json.dumps(question) + "\n")
            ascent = f"was first climbed in {1810 + i} by {climber} with a guide and a rope"
            texts = (
                f"{rock} was kept by {keeper} for many years.",
                f"{rock} has snow on its top in winter and {ascent}.",
            )
            for kind, text in zip(("keeper", "climber"), texts, strict=True):
                passages.write(json.dumps({"id": f"{kind}{i}", "title": rock, "text": text}) + "\n")


def brevity_reward(outcome: Outcome) -> float:
    """Your own idea of good: the right answer, and a little less for every search it took."""
    if outcome.ended != "answer":
        return -1.0
    return outcome.f1 - 0.1 * outcome.searches


def make_env(split: str, folder: str, **kwargs: Any) -> SearchQAEnv:
    """What ``gymnasium.make`` calls: your questions, your index, the environment of this project."""
    lines = Path(folder, "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    questions = tuple(Question(row["id"], row["question"], tuple(row["answers"])) for row in rows)
    passages = Path(folder, "passages.jsonl")
    search = build_or_open(Path(folder, "index"), lambda: read_passages(passages), expected_key="lighthouses")
    dataset = Dataset.of(questions, name="lighthouses", split=split)
    return SearchQAEnv(dataset, search, Rules.of(reward=brevity_reward, **kwargs))


def main() -> None:
    """Register the task, train on it, and show exact match before and after."""
    gymnasium.register("Lighthouses-v0", entry_point=f"{__name__}:make_env")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_task(folder)
        config = at2po.load_config(
            None,
            [
                "env.id=Lighthouses-v0",
                f"env.kwargs={{folder: {folder}, dialect: bare, k: 1, max_searches: 3}}",
                "policy.path=builtin:microwiki",
                "algorithm.expansion={chains: 4, per_round: 2, rounds: 1}",
                "rollout={questions: 12, max_turn_tokens: 24}",
                "update={lr: 3e-4, mini_batch: 6}",
                "train.steps=8",
                "eval.questions=12",
                f"run_dir={folder / 'run'}",
            ],
        )
        with at2po.Display(config.train.steps) as display:
            result = at2po.train(config, display=display)
    print(f"{result.steps} steps on {result.trees} trees, {result.generated_tokens} generated tokens")
    for when, scores in (("before", result.before), ("after", result.after)):
        if scores is not None:
            print(f"EM {when}: {scores.mean:.1%}, with {scores.means['searches']:.2f} searches a question")


if __name__ == "__main__":
    main()
