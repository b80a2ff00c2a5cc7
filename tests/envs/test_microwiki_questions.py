import json
import re
from collections import Counter, defaultdict

import pytest

from at2po_env.state import Question
from envs.microwiki import BENCHMARK
from envs.microwiki_text import RELATIONS
from search_backend.base import Passage
from search_backend.embedded.backend import EmbeddedIndex

WORLD = {"preset": "tiny", "hops": (0.25, 0.25, 0.2, 0.2), "comparison": 0.1}
QUESTIONS = [q for split in BENCHMARK.available() for q in BENCHMARK.load(split, None, world=WORLD).questions]
PASSAGES: dict[str, Passage] = {passage.id: passage for passage in BENCHMARK.passages("test", None, world=WORLD)}
BRIDGES = [q for q in QUESTIONS if q.metadata["type"] != "comparison"]
COMPARED = [q for q in QUESTIONS if q.metadata["type"] == "comparison"]


def read(question: Question) -> list[Passage]:
    return [PASSAGES[id_] for id_ in question.metadata["passages"]]


def test_each_search_has_its_query_passage_result_and_faults():
    for question in QUESTIONS:
        known = question.metadata
        assert len(known["plan"]) == known["hops"]
        for name in ("relations", "passages", "chain", "wrong"):
            assert len(known[name]) == known["hops"], name
        assert question.supporting_titles == tuple(passage.title for passage in read(question))
        assert json.loads(json.dumps(known)) == known


def test_every_answer_stands_in_its_supporting_passages():
    for question in BRIDGES:
        for passage, query, found in zip(
            read(question), question.metadata["plan"], question.metadata["chain"], strict=True
        ):
            assert query.startswith(f"{passage.title} ")
            assert re.search(rf"\b{found}\b", passage.text)
        assert question.metadata["chain"][-1] == question.answers[0]


def test_each_query_is_about_what_the_one_before_found():
    for question in BRIDGES:
        titles = [passage.title for passage in read(question)]
        assert titles[1:] == question.metadata["chain"][:-1]
        assert titles[0] in question.question
        assert not any(step in question.question for step in question.metadata["chain"])
        assert len({*titles, question.answers[0]}) == len(titles) + 1


def test_a_question_reads_from_the_last_relation_to_the_first():
    for question in BRIDGES:
        relations = [RELATIONS[name] for name in question.metadata["relations"]]
        title = question.supporting_titles[0]
        start = f"the {title}" if title.startswith("River") else title
        phrases = " ".join(relation.phrase for relation in reversed(relations))
        assert question.question == f"{relations[-1].ask} {phrases} {start}?"


def test_comparisons_are_decided_by_the_numbers_in_their_passages():
    smaller = {"older", "earlier"}
    for question in COMPARED:
        numbers = [int(value) for value in question.metadata["chain"]]
        for passage, number in zip(read(question), numbers, strict=True):
            assert re.search(rf"\b{number}\b", passage.text)
        best = min(numbers) if smaller & set(re.findall(r"\w+", question.question)) else max(numbers)
        assert question.answers[0] == question.supporting_titles[numbers.index(best)]
        assert numbers[0] != numbers[1]


def test_every_comparison_has_its_answer_first_as_often_as_second():
    first = Counter(
        (q.metadata["relations"][0], q.supporting_titles.index(q.answers[0]))
        for q in COMPARED
        if q.id.startswith("train")
    )
    assert len(first) == 10
    assert set(first.values()) == {2}


def test_long_and_short_names_are_both_accepted():
    for question in QUESTIONS:
        title = question.answers[0]
        short = title.removeprefix("River ").removeprefix("Mount ")
        if short != title:
            assert question.answers == (title, short)


def test_a_wrong_keyword_is_always_the_same_one_and_a_wrong_entity_another():
    seen: dict[str, set[str]] = defaultdict(set)
    for question in QUESTIONS:
        known = question.metadata
        for query, relation, wrong in zip(known["plan"], known["relations"], known["wrong"], strict=True):
            title, keyword = query.rsplit(" ", 1)
            assert wrong["keyword"].rsplit(" ", 1)[0] == wrong["random"].rsplit(" ", 1)[0] == title
            assert wrong["entity"].endswith(f" {keyword}") and not wrong["entity"].startswith(f"{title} ")
            assert query not in wrong.values()
            seen[relation].add(wrong["keyword"].rsplit(" ", 1)[1])
    assert len(seen) >= 11
    assert all(len(words) == 1 for words in seen.values())


def test_a_wrong_entity_of_a_later_search_stands_in_what_was_just_read():
    for question in BRIDGES:
        for step, wrong in enumerate(question.metadata["wrong"][1:], start=1):
            before = read(question)[step - 1]
            assert wrong["entity"].rsplit(" ", 1)[0] in f"{before.title} {before.text}"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    passages = BENCHMARK.passages("test", None, world="small")
    index = EmbeddedIndex.build(tmp_path_factory.mktemp("small") / "index", passages)
    yield index, BENCHMARK.load("test", None, world="small").questions
    index.close()


def share_found(small, queries: list[tuple[str, str]]) -> float:
    index, _ = small
    hits = index.search([query for query, _ in queries], 1)
    return sum(h[0].passage.id == wanted for h, (_, wanted) in zip(hits, queries, strict=True)) / len(queries)


def test_the_right_queries_find_their_passages_first(small):
    known = [question.metadata for question in small[1]]
    right = [pair for k in known for pair in zip(k["plan"], k["passages"], strict=True)]
    assert share_found(small, right) >= 0.98


def test_a_wrong_keyword_finds_the_other_passage(small):
    known = [question.metadata for question in small[1]]
    wrong = [
        (wrong["keyword"], id_[:-1] + ("1" if id_.endswith("0") else "0"))
        for k in known
        for wrong, id_ in zip(k["wrong"], k["passages"], strict=True)
    ]
    assert share_found(small, wrong) >= 0.98


def test_a_name_alone_finds_the_right_passage_by_chance_only(small):
    known = [question.metadata for question in small[1]]
    bare = [(query.rsplit(" ", 1)[0], id_) for k in known for query, id_ in zip(k["plan"], k["passages"], strict=True)]
    assert share_found(small, bare) == pytest.approx(0.5, abs=0.08)
