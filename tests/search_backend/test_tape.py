from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_backend import CorpusError, EmbeddedIndex, Hit, Manifest, Passage, SearchError, Tape, TapeMiss
from search_backend.outside import well_formed
from tests.helpers.hostile_json import with_each_part_replaced
from tests.helpers.search_contract import SearchBackendContract


class Counting:
    """A backend in memory that finds one passage which spells the query, and remembers what it was asked."""

    def __init__(self, corpus="c", score=1.5):
        self.manifest = Manifest("counting", corpus, 1, "none")
        self.asked, self.score, self.closed = [], score, 0

    def search(self, queries, k):
        self.asked.append((list(queries), k))
        texts = [well_formed(query) for query in queries]  # as every backend's are
        return [[Hit(Passage(f"{i}", text, text[::-1]), self.score / (i + 1)) for i in range(k)] for text in texts]

    async def asearch(self, queries, k):
        return self.search(queries, k)

    def close(self):
        self.closed += 1


class TestContract(SearchBackendContract):
    @pytest.fixture(params=["record", "read-through"])
    def make_backend(self, request, tmp_path):
        made = []

        def make(passages):
            index = EmbeddedIndex.build(tmp_path / f"index-{len(made)}", passages)
            made.append(Tape(tmp_path / f"tape-{len(made)}", index, request.param))
            return made[-1]

        return make


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "tape.jsonl"


def test_a_replay_needs_no_backend_and_answers_alike(path):
    backend = Counting()
    tape = Tape(path, backend, "record")
    recorded = tape.search(["one", "two", "one", ""], 2)
    assert backend.asked == [(["one", "two", ""], 2)]
    tape.close()
    assert backend.closed
    replay = Tape(path, None, "replay")
    assert replay.manifest == backend.manifest
    assert replay.search(["one", "two", "one", ""], 2) == recorded


def test_a_miss_names_query_and_file(path):
    Tape(path, Counting(), "record").search(["one"], 2)
    replay = Tape(path, None, "replay")
    for queries, k in ((["one", "three"], 2), (["one"], 3)):
        with pytest.raises(TapeMiss) as caught:
            replay.search(queries, k)
        assert repr(queries[-1]) in str(caught.value)
        assert str(path) in str(caught.value)
        assert f"k={k}" in str(caught.value)


def test_reading_through_asks_only_for_what_is_missing(path):
    Tape(path, Counting(score=8.0), "record").search(["one"], 1)
    backend = Counting(score=2.0)
    tape = Tape(path, backend, "read-through")
    scores = [hits[0].score for hits in tape.search(["two", "one", "two"], 1)]
    assert scores == [2.0, 8.0, 2.0]
    tape.search(["two", "one"], 1)
    assert backend.asked == [(["two"], 1)]
    assert Tape(path, None, "replay").search(["two"], 1)[0][0].score == 2.0


def test_recording_asks_always_and_the_later_answer_counts(path):
    first = Tape(path, Counting(score=1.0), "record")
    first.search(["one"], 1)
    size = path.stat().st_size
    first.search(["one"], 1)
    assert path.stat().st_size == size, "an equal answer is not written again"
    Tape(path, Counting(score=5.0), "record").search(["one"], 1)
    assert Tape(path, None, "replay").search(["one"], 1)[0][0].score == 5.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters()), min_size=1, max_size=6), st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_and_score_survive(tmp_path_factory, queries, score):
    path = tmp_path_factory.mktemp("tape") / "tape"
    recorded = Tape(path, Counting(score=score), "record").search(queries, 2)
    assert Tape(path, None, "replay").search(queries, 2) == recorded
    assert len(path.read_bytes().splitlines()) == 1 + len(set(queries))


@pytest.mark.fault("item 23: a line of a tape in which one part is something else")
@pytest.mark.parametrize("damaged", [0, 1])
def test_whatever_a_part_of_a_line_is_the_hits_are_sound_or_there_is_an_error_of_ours(path, damaged):
    Tape(path, Counting(), "record").search(["one"], 2)
    lines = path.read_bytes().splitlines()
    for made in with_each_part_replaced(json.loads(lines[damaged])):
        lines[damaged] = json.dumps(made).encode()
        path.write_bytes(b"\n".join(lines) + b"\n")
        try:
            tape = Tape(path, None, "replay")
            assert len(tape.manifest.digest) == 64
            (hits,) = tape.search(["one"], 2)
        except SearchError:
            continue
        for hit in hits:
            assert math.isfinite(hit.score)
            f"{hit.passage.id}{hit.passage.title}{hit.passage.text}".encode()
            assert {type(part) for part in (hit.passage.id, hit.passage.title, hit.passage.text)} == {str}
        tape.close()


def test_a_tape_belongs_to_one_backend(path):
    Tape(path, Counting("corpus A"), "record").search(["one"], 1)
    before = path.read_bytes()
    with pytest.raises(SearchError, match="another backend"):
        Tape(path, Counting("corpus B"), "read-through")
    assert path.read_bytes() == before


def test_answers_of_another_corpus_on_the_same_tape_are_not_its_own(path):
    tape = Tape(path, Counting("A"), "record")
    tape.search(["one"], 1)
    with path.open("ab") as stream:
        line = json.loads(path.read_bytes().splitlines()[1])
        stream.write(json.dumps({**line, "manifest": "f" * 64, "query": "two"}).encode() + b"\n")
    with pytest.raises(TapeMiss):
        Tape(path, None, "replay").search(["two"], 1)


DEEP = b'{"at2po_tape": 1, "x": ' + b"[" * 100_000 + b"\n"


@pytest.mark.parametrize(
    "content", [b'{"question": "who?"}\n', b"not a tape", b"\x00\xff" * 100, b'{"at2po_tape": 1, "x": 2}\n', DEEP]
)
@pytest.mark.parametrize("mode", ["record", "replay"])
def test_a_file_that_is_no_tape_is_left_alone(tmp_path, content, mode):
    (tmp_path / "mine").write_bytes(content)
    with pytest.raises(CorpusError, match="not a tape"):
        Tape(tmp_path / "mine", Counting(), mode)
    assert (tmp_path / "mine").read_bytes() == content


def test_whatever_a_crash_cuts_off_the_rest_is_whole(path, tmp_path):
    Tape(path, Counting(), "record").search(["one", "two"], 1)
    whole = path.read_bytes()
    header, one, two = (len(line) for line in whole.splitlines(keepends=True))
    for cut in range(len(whole)):
        torn = tmp_path / "torn"
        torn.write_bytes(whole[:cut])
        backend = Counting()
        tape = Tape(torn, backend, "read-through")
        tape.search(["one", "two"], 1)
        # an answer that lost no more than its line break is whole
        asked = [q for q, end in (("one", header + one - 1), ("two", header + one + two - 1)) if cut < end]
        assert backend.asked == ([(asked, 1)] if asked else [])
        tape.close()
        assert Tape(torn, None, "replay").search(["one", "two"], 1) == Counting().search(["one", "two"], 1)


def test_a_replay_tolerates_a_torn_line_and_does_not_touch_it(path):
    Tape(path, Counting(), "record").search(["one", "two"], 1)
    path.write_bytes(path.read_bytes()[:-9])
    before = path.read_bytes()
    replay = Tape(path, None, "replay")
    assert replay.search(["one"], 1)
    with pytest.raises(TapeMiss):
        replay.search(["two"], 1)
    assert path.read_bytes() == before


def test_the_position_is_what_is_whole_on_the_tape(path):
    tape = Tape(path, Counting(), "record")
    before = tape.position()
    assert before == path.stat().st_size > 0
    tape.search(["one"], 1)
    assert tape.position() == path.stat().st_size > before
    assert Tape(path, None, "replay").position() == tape.position()


def test_a_tape_sees_what_another_one_appends(path):
    first, second = Counting(), Counting()
    one, two = Tape(path, first, "read-through"), Tape(path, second, "read-through")
    assert one.search(["a"], 1) == two.search(["a"], 1)
    assert second.asked == []


def test_threads_share_a_tape(path):
    backend = Counting()
    tape = Tape(path, backend, "read-through")
    with ThreadPoolExecutor(8) as threads:
        batches = [[f"query {i * j % 50}" for j in range(20)] for i in range(60)]
        assert list(threads.map(lambda batch: tape.search(batch, 2), batches)) == [
            Counting().search(b, 2) for b in batches
        ]
    assert all(json.loads(line) for line in path.read_bytes().splitlines())
    replay = Tape(path, None, "replay")
    assert [replay.search(batch, 2) for batch in batches] == [Counting().search(batch, 2) for batch in batches]


def append_many(path, start):
    tape = Tape(path, Counting(), "record")
    for i in range(100):
        tape.search([f"{start} {i} " + "long " * (i * 20)], 2)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_processes_append_to_one_tape(path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=append_many, args=(path, start)) for start in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    queries = [f"{start} {i} " + "long " * (i * 20) for start in range(4) for i in range(100)]
    assert Tape(path, None, "replay").search(queries, 2) == Counting().search(queries, 2)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_does_not_wait_for_what_another_thread_of_its_parent_does(path):
    tape, done = Tape(path, Counting(), "read-through"), threading.Event()

    def keep_searching() -> None:
        for i in itertools.count():
            if done.is_set():
                return
            tape.search([f"busy {i}"], 1)

    with ThreadPoolExecutor(2) as threads:
        busy = [threads.submit(keep_searching) for _ in range(2)]
        fork = multiprocessing.get_context("fork")
        processes = [fork.Process(target=tape.search, args=([f"forked {i}"], 1)) for i in range(8)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(20)
        done.set()
        for searches in busy:
            searches.result()
    assert [process.exitcode for process in processes] == [0] * 8
    assert all(Tape(path, None, "replay").search([f"forked {i}" for i in range(8)], 1))


FULL = """
import resource, sys
from search_backend import CorpusError, Tape
from tests.search_backend.test_tape import Counting
tape = Tape(sys.argv[1], Counting(), "record")
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 9000))
for i in range(100):
    try:
        tape.search([f"query {i}"], 1)
    except CorpusError as error:
        print(i, error)
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
tape.search(["after"], 1)
"""


def test_a_full_disk_is_one_clear_error_and_harms_no_answer(path):
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60)
    assert f"the tape {path} cannot be written" in done.stdout, done.stderr
    lost = int(done.stdout.split()[0])
    replay = Tape(path, None, "replay")
    assert replay.search([f"query {i}" for i in range(lost)], 1)
    assert replay.search(["after"], 1)
    with pytest.raises(TapeMiss):
        replay.search([f"query {lost}"], 1)


def test_a_wrong_mode_or_a_missing_backend_is_refused(path):
    with pytest.raises(SearchError, match=r"rewind.*record, replay, read-through"):
        Tape(path, Counting(), "rewind")
    with pytest.raises(SearchError, match="needs the backend"):
        Tape(path, None, "record")
    assert not path.exists()
