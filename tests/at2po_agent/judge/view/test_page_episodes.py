import base64
import gzip
import json
import re

import pytest

from at2po_agent.judge.results.metrics import summarise
from at2po_agent.judge.view.page import Heading
from at2po_agent.judge.view.page_episodes import CHUNK, episode_chunks, evaluation_head
from at2po_agent.judge.view.run_page import write_report
from tests.helpers.evaluations import answered, failed, malformed, write_run


def head_of(episodes):
    return json.loads(json.dumps(evaluation_head(Heading("t", "s", False, []), summarise(episodes), episodes)))


def test_every_row_of_the_list_finds_its_transcript():
    episodes = [answered(f"q{n}", prompt=f"prompt {n}") for n in range(CHUNK + 3)]
    chunks = list(episode_chunks(episodes))
    assert [len(chunk) for chunk in chunks] == [CHUNK, 3]
    for row in head_of(episodes)["episodes"]:
        assert chunks[row["chunk"]][row["at"]]["prompt"] == f"prompt {row['id'].removeprefix('q')}"


def test_rows_say_what_filters_they_pass():
    rows = head_of([answered("a"), answered("b", "Rom"), malformed("c"), failed("d")])["episodes"]
    assert [(row["verdict"], row["filters"]) for row in rows] == [
        ("correct", ["correct"]),
        ("wrong", ["wrong"]),
        ("malformed", ["wrong", "malformed"]),
        ("error", ["error"]),
    ]


def test_gold_titles_are_marked_and_passages_taken_apart():
    ((episode,),) = episode_chunks([answered("a")])
    hits = episode["turns"][0]["hits"]
    assert [(hit["title"], hit["gold"], hit["body"]) for hit in hits] == [
        ("Somon", True, "Somon was born in Walem."),
        ("Walem", False, "Walem is a town."),
    ]


def test_samples_of_one_question_are_told_apart():
    head = head_of([answered("a", sample=0), answered("a", "Rom", sample=1)])
    assert head["samples"] == 2
    assert [row["sample"] for row in head["episodes"]] == [0, 1]


@pytest.mark.fault("item 15: leaves of a tree are not pooled with its chains")
def test_the_page_of_trees_is_headed_by_their_chains(tmp_path):
    paths = [answered("a", "Walem" if sample < 2 else "Rom", sample=sample) for sample in range(7)]
    run = write_run(tmp_path / "run", paths, tree={"chains": 2, "per_round": 2, "rounds": 1})
    assert write_report(run, tmp_path / "page.html", 0) == "7 episodes"
    block = re.search(r'id="chunk-head">([^<]*)<', (tmp_path / "page.html").read_text())
    assert block
    head = json.loads(gzip.decompress(base64.b64decode(block[1])))
    assert (head["chains"], head["summary"]["means"]["em"]["mean"], head["summary"]["episodes"]) == (2, 1.0, 2)
