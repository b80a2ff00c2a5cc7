from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_backend import CorpusError, Passage
from search_backend.embedded.sort import SortedCorpus
from tests.search_backend.embedded.test_backend import crowd


def silent(phase, done):
    pass


@pytest.mark.parametrize("run_bytes", [200_000, 10**9])
def test_passages_come_by_id_as_often_as_needed_from_memory_or_disk(tmp_path, run_bytes):
    passages = list(crowd(3_000))
    random.Random(0).shuffle(passages)
    corpus = SortedCorpus(iter(passages), tmp_path, run_bytes, silent)
    expected = sorted(passages, key=lambda passage: passage.id)
    assert list(corpus) == expected == list(corpus)
    assert bool(list(tmp_path.iterdir())) == (run_bytes == 200_000)


@given(st.integers(0, 5), st.integers(6, 11))
def test_equal_ids_are_refused_and_both_are_named(tmp_path_factory, first, second):
    passages = [Passage(f"id{i}", f"Title {i}", "text") for i in range(12)]
    passages[second] = Passage(passages[first].id, "Other", "text")
    with pytest.raises(CorpusError) as caught:
        list(SortedCorpus(passages, tmp_path_factory.mktemp("runs"), 10**9, silent))
    for part in (f"'id{first}'", f"number {first + 1} (title 'Title {first}')", f"number {second + 1} (title 'Other')"):
        assert part in str(caught.value)


@pytest.mark.parametrize("run_bytes", [1_000, 10**9])
def test_what_comes_again_alike_is_kept_once(tmp_path, run_bytes):
    passages = list(crowd(30))
    corpus = SortedCorpus([*passages, *passages[5:25], passages[7]], tmp_path, run_bytes, silent)
    assert list(corpus) == sorted(passages, key=lambda passage: passage.id)


def test_a_full_disk_is_one_clear_error(tmp_path):
    with pytest.raises(CorpusError, match=r"cannot be sorted: .*cannot be written"):
        SortedCorpus(crowd(3_000), tmp_path / "gone", 100_000, silent)
