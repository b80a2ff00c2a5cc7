"""Answers come back for the same request alone, from other connections too, and faults of the file are named."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from at2po_agent.atomic_files import DiskError
from at2po_agent.judge.endpoint.response_cache import ResponseCache
from tests.helpers.faults import disk_with_room_for

ADDRESS = {"url": "http://h/v1", "body": {"model": "m", "messages": [{"role": "user", "content": "Où?"}]}, "sample": 0}
ANSWER = {"choices": [{"message": {"content": "Là."}}]}


def test_an_answer_is_that_of_the_whole_address(tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "answers.db") as cache:
        assert cache.get(ADDRESS) is None
        cache.put(ADDRESS, ANSWER)
        assert cache.get(dict(reversed(ADDRESS.items()))) == ANSWER  # the order of fields is no difference
        assert cache.get({**ADDRESS, "sample": 1}) is None
        cache.put(ADDRESS, {"choices": []})
        assert cache.get(ADDRESS) == {"choices": []}


def test_the_file_outlives_its_process_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "answers.db"
    with ResponseCache(path) as cache:
        cache.put(ADDRESS, ANSWER)
    with ResponseCache(path) as again:
        assert again.get(ADDRESS) == ANSWER


def test_many_may_write_one_file_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"

    def write(writer: int) -> None:
        with ResponseCache(path) as cache:
            for n in range(50):
                cache.put([writer, n], {"writer": writer, "n": n})

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ResponseCache(path) as cache:
        assert all(cache.get([writer, n]) == {"writer": writer, "n": n} for writer in range(4) for n in range(50))


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database, and longer than the head of one would be " * 40)
    with pytest.raises(DiskError, match=r"notes\.txt cannot be used: file is not a database"):
        ResponseCache(tmp_path / "notes.txt")
    with pytest.raises(DiskError, match=r"cannot write .*notes\.txt"):
        ResponseCache(tmp_path / "notes.txt" / "answers.db")


def test_a_full_disk_is_said_and_loses_no_earlier_answer(tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "answers.db") as cache:
        cache.put(ADDRESS, ANSWER)
        with disk_with_room_for(40_000), pytest.raises(DiskError, match=r"answers\.db cannot be written"):
            cache.put("long", {"text": "x" * 200_000})
        assert cache.get(ADDRESS) == ANSWER and cache.get("long") is None
