import json

from at2po_agent.judge.results.metrics import summarise
from at2po_agent.judge.view.page import Heading
from at2po_agent.judge.view.page_episodes import CHUNK, episode_chunks, evaluation_head
from tests.helpers.evaluations import answered, failed, malformed


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
