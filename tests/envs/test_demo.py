from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from at2po_env.registration import BENCHMARKS, load_benchmark
from envs import demo

NAMES = [name for name in BENCHMARKS if name != "microwiki"]


@pytest.mark.parametrize("name", NAMES)
def test_a_few_dozen_questions_that_their_passages_answer(name):
    benchmark = load_benchmark(name)
    dataset = benchmark.load("demo", None)
    assert 24 <= len(dataset.questions) <= 72
    assert (dataset.name, dataset.split) == (name, "demo")
    assert len({question.question for question in dataset.questions}) == len(dataset.questions)
    passages = {passage.title: passage for passage in benchmark.passages("demo", None)}
    for question in dataset.questions:
        text = " ".join(f"{title} {passages[title].text}" for title in question.supporting_titles)
        assert set(question.answers) <= {"yes", "no"} or any(answer in text for answer in question.answers), question


def test_each_is_of_its_benchmarks_kind():
    kinds = {
        name: Counter(q.metadata.get("type") for q in load_benchmark(name).load("demo", None).questions)
        for name in NAMES
    }
    assert set(kinds["hotpotqa"]) == {"bridge", "comparison"}
    assert set(kinds["2wikimultihopqa"]) == {"compositional", "comparison", "inference", "bridge_comparison"}
    assert set(kinds["popqa"]) == {"occupation", "place of birth", "director", "genre", "author"}
    composed = load_benchmark("musique").load("demo", None).questions
    assert {q.metadata["hops"] for q in composed} == {2, 3, 4}
    assert all(len(q.supporting_titles) <= q.metadata["hops"] + 1 for q in composed)
    assert all(q.question == q.question.lower() for q in load_benchmark("nq").load("demo", None).questions)
    for name in ("nq", "triviaqa", "popqa"):
        assert all(len(q.supporting_titles) == 1 for q in load_benchmark(name).load("demo", None).questions)
    for name in ("hotpotqa", "2wikimultihopqa", "musique", "bamboogle"):
        assert all(len(q.supporting_titles) >= 2 for q in load_benchmark(name).load("demo", None).questions)


def test_hand_checked_answers():
    by_question = {q.question: q.answers for name in NAMES for q in load_benchmark(name).load("demo", None).questions}
    assert by_question["In which town was the director of the film The Salt Lantern born?"] == ("Quillhaven",)
    assert by_question["Who is the paternal grandfather of Orla Vensgate?"] == ("Bertil Vensgate",)
    assert by_question["On what river lies the seat of the island where the founder of Arrengar Engines was born?"] == (
        "River Anlow",
    )
    assert by_question["Which film has the director who was born earlier, Amber Road or The Observatory Affair?"] == (
        "Amber Road",
    )
    assert by_question["Do Quillhaven and Brackmoor lie on the same river?"] == ("yes",)


def test_the_same_everywhere():
    code = "from envs import demo; print(demo.musique().digest, demo.popqa().digest)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": "5"})
    assert done.stdout.split() == [demo.musique().digest, demo.popqa().digest], done.stderr
    assert len({load_benchmark(name).load("demo", None).digest for name in NAMES}) == 7
