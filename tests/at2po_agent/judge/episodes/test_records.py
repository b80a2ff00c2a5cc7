"""What is read of an evaluation is what was written, whatever the process that wrote it died of."""

import json
import math
from dataclasses import replace

import pytest

from at2po_agent.judge.episodes.records import (
    EPISODES,
    FILTERS,
    EpisodeRecord,
    RecordError,
    TurnRecord,
    read_episodes,
    verdict,
)
from search_backend.outside import Unusable, read_json
from tests.helpers.evaluations import answered, failed, malformed
from tests.helpers.hostile_json import with_each_part_replaced

TURN = TurnRecord("<search>a</search>", {"kind": "search", "content": "a", "why": None}, "<result>", ({"id": "1"},))
DONE = EpisodeRecord("q1", 0, "who?", ("A", "B"), "answer", prediction="a", em=1.0, turns=(TURN, TURN))


def test_a_record_comes_back_as_it_was_written(tmp_path):
    (tmp_path / EPISODES).write_text(DONE.to_line())
    assert list(read_episodes(tmp_path)) == [DONE]


def test_metrics_of_other_tasks_come_back_in_their_order_and_search_fields_stay_away(tmp_path):
    done = EpisodeRecord("t1", 0, "9", (), "done", turns=(TURN,), metrics={"success": 1.0, "a": 0.5})
    (tmp_path / EPISODES).write_text(done.to_line())
    (read,) = read_episodes(tmp_path)
    assert read == done and list(read.metrics) == ["success", "a"] and read.score == 1
    assert not {"em", "f1", "searches"} & set(json.loads(done.to_line()))
    assert "metrics" not in json.loads(DONE.to_line()) and DONE.score == DONE.em == 1
    assert (verdict(done), verdict(replace(done, metrics={"success": 0.0, "a": 1.0}))) == ("correct", "wrong")


def test_a_torn_last_line_is_left_out(tmp_path):
    (tmp_path / EPISODES).write_text(DONE.to_line() + DONE.to_line()[:50])
    assert list(read_episodes(tmp_path)) == [DONE]


def test_a_later_line_replaces_the_error_that_an_earlier_one_recorded(tmp_path):
    failed = EpisodeRecord("q1", 0, "who?", ("A", "B"), "error", error="timeout")
    (tmp_path / EPISODES).write_text(failed.to_line() + DONE.to_line())
    assert list(read_episodes(tmp_path)) == [DONE]


@pytest.mark.parametrize("line", ["{}", "[]", "{", '{"question_id": "q", "unknown": 1}'])
def test_a_whole_line_that_is_no_record_names_itself(tmp_path, line):
    (tmp_path / EPISODES).write_text(DONE.to_line() + line + "\n")
    with pytest.raises(RecordError, match=r"episodes\.jsonl:2: not an episode record"):
        list(read_episodes(tmp_path))


def test_another_directory_is_refused(tmp_path):
    with pytest.raises(RecordError, match="not the directory of an evaluation"):
        list(read_episodes(tmp_path))


def test_filters_may_overlap_and_a_verdict_is_one_word():
    def names(episode):
        return [name for name, fits in FILTERS.items() if fits(episode)]

    assert (names(answered("a")), verdict(answered("a"))) == (["correct"], "correct")
    assert (names(answered("a", "Rom")), verdict(answered("a", "Rom"))) == (["wrong"], "wrong")
    assert (names(malformed("a")), verdict(malformed("a"))) == (["wrong", "malformed"], "malformed")
    (turn,) = malformed("a").turns[-1:]
    too_long = replace(malformed("a"), turns=(*malformed("a").turns[:-1], replace(turn, finish="length")))
    assert (names(too_long), verdict(too_long)) == (["wrong", "cut"], "cut")
    assert (names(failed("a")), verdict(failed("a"))) == (["error"], "error")


@pytest.mark.fault("item 23: an evaluation's episodes in which one part is something else")
def test_whatever_a_part_of_a_line_is_the_record_is_sound_or_there_is_an_error():
    hit = {"id": "1", "title": "T", "score": 1.5}
    whole = replace(
        DONE, turns=(replace(TURN, hits=(hit,)),), messages=({"role": "user", "content": "x"},), gold_titles=("T",)
    )
    for made in with_each_part_replaced(json.loads(whole.to_line())):
        try:
            record = EpisodeRecord.from_json(read_json(json.dumps(made)))
        except Unusable:
            continue
        record.to_line().encode()
        texts = [record.question_id, record.question, record.ended, *record.answers, *record.gold_titles]
        for turn in record.turns:
            read = [turn.action.get(name) or "" for name in ("kind", "content", "why")]
            texts += [turn.text, turn.observation, turn.reasoning, turn.finish, *read]
            texts += [one[name] for one in turn.hits for name in ("id", "title") if name in one]
            assert all(one.get("score") is None or math.isfinite(one["score"]) for one in turn.hits), made
        texts += [one["role"] for one in record.messages] + [one.get("content") or "" for one in record.messages]
        assert all(isinstance(text, str) for text in texts), made
