"""How often the search engines find an answer: recall at k on real questions over real Wikipedia passages.

    python -m benchmarks.retrieval DIR [--engines embedded fts5] [--questions 300] [--save]

DIR holds the benchmarks' original files and ``corpus/*.jsonl.gz``. All passages are indexed together. Many of them were
retrieved for these very questions, so this is easier than all of Wikipedia: the figures compare engines, nothing else.

Answer recall@k is the share of questions for which one of the best k passages contains a gold answer (DPR's top-k
accuracy, Karpukhin et al. 2020, https://aclanthology.org/2020.emnlp-main.550/), both normalised as for exact match and
compared word by word. Title recall@k is the share of a question's supporting titles that are among those of the best k
passages. Questions whose answer is yes or no are left out: every text contains those.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from at2po_env.scoring import normalise
from at2po_env.state import Question
from benchmarks.search_engines import ENGINES, Search
from envs import bamboogle, hotpotqa, musique, nq, popqa, triviaqa, twowiki
from search_backend import Passage, read_passages

KS = (1, 3, 5, 10)
BENCHMARKS = {
    "NQ oracle": (nq.BENCHMARK, "oracle"),
    "PopQA": (popqa.BENCHMARK, "test"),
    "HotpotQA": (hotpotqa.BENCHMARK, "dev"),
    "TriviaQA": (triviaqa.BENCHMARK, "test"),
    "2Wiki": (twowiki.BENCHMARK, "dev"),
    "MuSiQue": (musique.BENCHMARK, "dev"),
    "Bamboogle": (bamboogle.BENCHMARK, "test"),
}


def read_corpus(data: Path) -> list[Passage]:
    """All sample passages, each once, numbered from 0."""
    unique: dict[str, Passage] = {}
    for file in sorted((data / "corpus").glob("*.jsonl.gz")):
        for passage in read_passages(file):
            unique.setdefault(passage.id, passage)
    return [Passage(str(row), passage.title, passage.text) for row, passage in enumerate(unique.values())]


def read_questions(data: Path, most: int) -> dict[str, list[Question]]:
    """Of the first ``most`` questions of each benchmark, those that are not answered with yes or no."""
    return {
        name: [
            question
            for question in benchmark.load(split, data).questions[:most]
            if not {"yes", "no"} & {*map(normalise, question.answers)}
        ]
        for name, (benchmark, split) in BENCHMARKS.items()
    }


class Recall:
    """Judges what is found in a corpus."""

    def __init__(self, corpus: Sequence[Passage]) -> None:
        self._titles = [passage.title for passage in corpus]
        self._texts = [f" {normalise(f'{passage.title} {passage.text}')} " for passage in corpus]

    def measure(
        self, search: Search, questions: Sequence[Question]
    ) -> tuple[dict[int, float], dict[int, float] | None]:
        """Answer recall and title recall at each k; None where no supporting titles are known."""
        found = [[int(hit) for hit in hits] for hits in search([question.question for question in questions])]
        firsts: list[int] = []
        shares: list[list[float]] = []
        for question, rows in zip(questions, found, strict=True):
            golds = [f" {normalise(answer)} " for answer in question.answers if normalise(answer)]
            ranks = (rank for rank, row in enumerate(rows) if any(gold in self._texts[row] for gold in golds))
            firsts.append(next(ranks, max(KS)))
            if wanted := {*question.supporting_titles}:
                titles = [self._titles[row] for row in rows]
                shares.append([len(wanted & {*titles[:k]}) / len(wanted) for k in KS])
        answers = {k: float(np.mean([first < k for first in firsts])) for k in KS}
        return answers, dict(zip(KS, np.mean(shares, axis=0).tolist(), strict=True)) if shares else None


def make_search(name: str, corpus: Sequence[Passage], folder: Path) -> Search:
    """Index the corpus with an engine and open it."""
    engine, file = ENGINES[name](), folder / "corpus.jsonl"
    with file.open("w", encoding="utf-8") as stream:
        for passage in corpus:
            stream.write(json.dumps({"id": passage.id, "title": passage.title, "text": passage.text}) + "\n")
    own = folder / name
    own.mkdir()
    engine.build(file, own)
    return engine.open(own, max(KS))


def main() -> None:
    """Measure, print and, if asked to, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["embedded", "fts5"])
    parser.add_argument("--questions", type=int, default=300, help="of each benchmark, the first; SQLite is slow")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/retrieval.txt")
    arguments = parser.parse_args()
    if "AT2PO_ES_URL" not in os.environ and not {*arguments.engines} <= {"embedded", "bm25s", "fts5"}:
        parser.error("Elasticsearch needs a server without security; set AT2PO_ES_URL to its URL")
    console = Console(width=120, record=True)
    corpus, questions = read_corpus(arguments.data), read_questions(arguments.data, arguments.questions)
    recall = Recall(corpus)
    table = Table(title=f"Recall at {', '.join(map(str, KS))} over {len(corpus):,} passages, %", title_justify="left")
    for column in ("questions", "engine", *(f"answer@{k}" for k in KS), *(f"title@{k}" for k in KS)):
        table.add_column(column, justify="right" if "@" in column else "left")
    with tempfile.TemporaryDirectory() as folder:
        searches = {name: make_search(name, corpus, Path(folder)) for name in arguments.engines}
        for benchmark, asked in questions.items():
            for name, search in searches.items():
                answers, titles = recall.measure(search, asked)
                cells = [f"{answers[k]:.1%}"[:-1] for k in KS] + [f"{titles[k]:.1%}"[:-1] if titles else "" for k in KS]
                table.add_row(f"{benchmark} ({len(asked)})" if name == arguments.engines[0] else "", name, *cells)
    console.print(table)
    if arguments.save:
        result = Path(__file__).parent / "results" / "retrieval.txt"
        result.write_text(console.export_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
