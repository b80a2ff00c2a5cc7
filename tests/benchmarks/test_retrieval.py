from __future__ import annotations

import pytest

from at2po_env import Question
from benchmarks.retrieval import Recall, make_search, read_corpus, read_questions
from search_backend import Passage

SHARED_RECALL = {  # answer in the top 5, in %: what plain BM25 finds in the samples, as their README says
    "NQ oracle": 83,
    "PopQA": 81,
    "HotpotQA": 73,
    "TriviaQA": 70,
    "2Wiki": 59,
    "MuSiQue": 29,
    "Bamboogle": 28,
}


def test_recall_counts_answers_as_words_and_shares_of_titles():
    corpus = [
        Passage("0", "Rome", "It has Caesarea."),
        Passage("1", "Gaul", "The CAESAR, came."),
        Passage("2", "X", ""),
    ]
    questions = [
        Question("a", "one", ("Caesar",), supporting_titles=("Gaul", "Nowhere")),
        Question("b", "two", ("Brutus", "a"), supporting_titles=("Rome",)),
    ]
    found = {"one": ["0", "2", "1"], "two": ["0", "1", "2"]}
    answers, titles = Recall(corpus).measure(lambda queries: [found[query] for query in queries], questions)
    assert answers == {1: 0.0, 3: 0.5, 5: 0.5, 10: 0.5}
    assert titles == {1: 0.5, 3: 0.75, 5: 0.75, 10: 0.75}
    assert Recall(corpus).measure(lambda queries: [[]], [Question("c", "?", ("x",))])[1] is None


@pytest.fixture(scope="module")
def corpus(data_dir):
    return read_corpus(data_dir)


def recall_at_5(engine, corpus, data_dir, folder, most):
    search, recall = make_search(engine, corpus, folder), Recall(corpus)
    return {
        name: round(100 * recall.measure(search, questions)[0][5])
        for name, questions in read_questions(data_dir, most).items()
    }


def short_of(found):
    return {name: (found[name], wanted) for name, wanted in SHARED_RECALL.items() if found[name] < wanted}


@pytest.mark.slow
def test_the_embedded_index_finds_as_many_answers_as_bm25_should(corpus, data_dir, tmp_path):
    assert not short_of(recall_at_5("embedded", corpus, data_dir, tmp_path, most=300))


@pytest.mark.service
def test_elasticsearch_finds_as_many_answers_as_bm25_should(
    corpus, data_dir, tmp_path, elasticsearch_host, monkeypatch
):
    monkeypatch.setenv("AT2PO_ES_URL", f"http://{elasticsearch_host}")
    assert not short_of(recall_at_5("elasticsearch", corpus, data_dir, tmp_path, most=300))
