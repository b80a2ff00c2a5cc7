import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import islice

import pytest

from at2po_env.state import Question, question_to_json
from envs.microwiki import BENCHMARK, PRESETS, WorldConfig, world_config
from envs.microwiki_world import SPLITS
from search_backend.base import Passage
from tests.helpers.places import ROOT

# SHA-256 over all questions and passages of `tiny`, made on CPython 3.11. If it changes on purpose, raise
# envs.microwiki.VERSION: caches and recorded results go by the digest of the configuration and that version.
TINY = "569fd7a6b0900c9db0483d30859076be85a27182e8cf72976ac908458a2a2be0"

FINGERPRINT = "from tests.envs.test_microwiki import fingerprint; print(fingerprint())"


def fingerprint() -> str:
    digest = hashlib.sha256()
    for split in SPLITS:
        for question in BENCHMARK.load(split, None, world="tiny").questions:
            digest.update(json.dumps(question_to_json(question), sort_keys=True).encode())
    for passage in BENCHMARK.passages("test", None, world="tiny"):
        digest.update(f"{passage.id}\t{passage.title}\t{passage.text}\n".encode())
    return digest.hexdigest()


def kind(question: Question) -> str | int:
    known = question.metadata
    return "comparison" if known["type"] == "comparison" else int(known["hops"])


def words(passages: Iterable[Passage]) -> list[int]:
    return [len(passage.text.split()) for passage in passages]


def test_a_world_is_the_same_in_every_process_and_version():
    assert fingerprint() == TINY
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", FINGERPRINT]
        run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
        assert run.stdout.strip() == TINY, run.stderr


def test_another_seed_is_another_world_of_the_same_size():
    a, b = (BENCHMARK.load("dev", None, world={"preset": "tiny", "seed": seed}) for seed in (1, 2))
    assert a.digest != b.digest
    assert len(a.questions) == len(b.questions) == 50
    assert not {q.question for q in a.questions} & {q.question for q in b.questions}


def test_other_numbers_of_questions_leave_the_encyclopedia_as_it_is():
    fewer = {"preset": "tiny", "train_questions": 10, "hops": (0.5, 0.5), "comparison": 0.0}
    assert list(BENCHMARK.passages("dev", None, world=fewer)) == list(BENCHMARK.passages("dev", None, world="tiny"))


@pytest.mark.parametrize("world", ["tiny", "small"])
def test_no_split_asks_about_a_title_of_another(world):
    seen: dict[str, set[str]] = {}
    for split in SPLITS:
        questions = BENCHMARK.load(split, None, world=world).questions
        seen[split] = {a for q in questions for a in q.answers} | {t for q in questions for t in q.supporting_titles}
        seen[split] |= {step for q in questions if kind(q) != "comparison" for step in q.metadata["chain"]}
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["test"]
    assert not seen["dev"] & seen["test"]


def test_every_split_is_searched_in_one_encyclopedia():
    by_split = [list(BENCHMARK.passages(split, None, world="tiny")) for split in SPLITS]
    assert by_split[0] == by_split[1] == by_split[2]
    assert len(by_split[0]) == 2 * (160 + 80 + 80)
    assert len({passage.id for passage in by_split[0]}) == len(by_split[0])


@pytest.mark.fault("item 12: MicroWiki's split demo")
def test_the_demo_is_a_world_of_its_own_that_has_to_be_asked_for():
    demo = BENCHMARK.load("demo", None)
    assert (demo.split, len(demo.questions)) == ("demo", 40)
    assert set(map(kind, demo.questions)) == {"comparison", 1, 2, 3}
    titles = {passage.title for passage in BENCHMARK.passages("demo", None)}
    assert all(set(q.supporting_titles) <= titles for q in demo.questions)
    assert not {q.id for q in demo.questions} & {q.id for q in BENCHMARK.load("test", None).questions}
    assert not {q.question for q in demo.questions} & {q.question for q in BENCHMARK.load("test", None).questions}
    assert "demo" in BENCHMARK.splits and "demo" not in BENCHMARK.available()
    with pytest.raises(ValueError, match="'demo' has a small world of its own"):
        BENCHMARK.load("demo", None, world="tiny")


def test_small_has_the_size_and_the_mix_it_promises():
    test = BENCHMARK.load("test", None, world="small").questions
    assert Counter(map(kind, test)) == {"comparison": 80, 1: 350, 2: 370, 3: 200}
    assert len({question.question for question in test}) == 1000
    lengths = words(BENCHMARK.passages("test", None, world="small"))
    assert len(lengths) == 2 * (2680 + 370 + 730)
    assert min(lengths) >= 13 and max(lengths) <= 16


def test_the_first_questions_have_the_mix_of_all():
    first = BENCHMARK.load("test", None, world="small").questions[:500]
    assert Counter(map(kind, first)) == {
        "comparison": pytest.approx(40, abs=1),
        1: pytest.approx(175, abs=1),
        2: pytest.approx(185, abs=1),
        3: pytest.approx(100, abs=1),
    }
    compared = [q.supporting_titles.index(q.answers[0]) for q in first if kind(q) == "comparison"]
    assert sum(compared) == pytest.approx(20, abs=1)


@pytest.mark.slow
def test_large_streams_more_than_100k_long_passages():
    stream = BENCHMARK.passages("train", None, world="large")
    first = list(islice(stream, 100))
    assert min(words(first)) >= 80
    assert len(first) + sum(1 for _ in stream) >= 100_000


def test_four_hops_are_asked_where_they_are_wanted():
    world = {"preset": "tiny", "hops": [0, 0, 0, 1], "comparison": 0}
    assert {kind(question) for question in BENCHMARK.load("dev", None, world=world).questions} == {4}


def test_a_world_can_be_named_given_or_described():
    assert world_config("tiny") == world_config({"preset": "tiny"}) == world_config(PRESETS["tiny"])
    assert world_config({"seed": 3}) == WorldConfig(seed=3)
    assert BENCHMARK.load("dev", None, world="tiny") is BENCHMARK.load("dev", None, world={"preset": "tiny"})


def test_the_digest_tells_worlds_apart():
    digests = {world_config({"preset": "tiny", **change}).digest for change in ({}, {"seed": 1}, {"detail": 1})}
    assert len(digests) == 3
    assert BENCHMARK.load("dev", None, world="tiny").digest == PRESETS["tiny"].digest


@pytest.mark.parametrize(
    ("world", "named"),
    [
        ("huge", "'huge'.*tiny, small, large"),
        ({"preset": "huge"}, "'huge'"),
        ({"entitys": 3}, "'entitys'.*train_entities"),
        ({"seed": "1"}, "seed.*'1'"),
        ({"seed": True}, "seed.*True"),
        ({"detail": -1}, "detail.*-1"),
        ({"dev_entities": 3}, "dev_entities.*at least 40.*3"),
        ({"hops": 0.92}, "hops.*0.92"),
        ({"hops": [0.9]}, "hops and comparison must add up to 1.*0.98"),
        ({"hops": [-0.08, 1.0]}, "hops.*-0.08"),
        ({"hops": [0.2, 0.2, 0.2, 0.2, 0.12]}, "hops.*got 5"),
        ({"comparison": "most"}, "comparison.*most"),
    ],
)
def test_a_bad_world_is_refused_by_the_name_of_its_field(world, named):
    with pytest.raises(ValueError, match=named):
        BENCHMARK.load("dev", None, world=world)
    with pytest.raises(ValueError, match=named):
        BENCHMARK.passages("dev", None, world=world)


def test_more_questions_than_there_are_is_an_error_that_says_which():
    with pytest.raises(ValueError, match=r"dev_questions wants 1750 different 1-hop questions.*dev_entities"):
        BENCHMARK.load("dev", None, world={"preset": "tiny", "dev_questions": 5000})


def test_an_unknown_split_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'valid'.*train, dev, test"):
        BENCHMARK.load("valid", None, world="tiny")
    with pytest.raises(ValueError, match="'valid'"):
        BENCHMARK.passages("valid", None, world="tiny")
