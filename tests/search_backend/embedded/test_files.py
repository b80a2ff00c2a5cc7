from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_backend import CorpusError, EmbeddedIndex, Passage, SearchError
from search_backend.embedded.files import pack, unpack
from tests.helpers.hostile_json import with_each_part_replaced


def test_the_corpus_digest_is_over_length_prefixed_fields_in_id_order(tmp_path):
    passages = [Passage("b", "Ö", ""), Passage("a", "T", "xyz")]
    by_hand = b"\0\0\0\1a" + b"\0\0\0\1T" + b"\0\0\0\3xyz" + b"\0\0\0\1b" + b"\0\0\0\2\xc3\x96" + b"\0\0\0\0"
    index = EmbeddedIndex.build(tmp_path / "index", passages)
    assert index.manifest.corpus_digest == hashlib.sha256(by_hand).hexdigest()


@given(st.builds(Passage, st.text(), st.text(), st.text()))
def test_what_was_packed_is_unpacked(passage):
    assert unpack(pack(passage)) == passage


def test_a_directory_that_never_was_an_index_is_left_alone_in_the_advice(tmp_path):
    (tmp_path / "dear").mkdir()
    (tmp_path / "dear" / "thesis.tex").touch()
    with pytest.raises(CorpusError, match=r"dear is not an index .*; name one that was built") as caught:
        EmbeddedIndex.open(tmp_path / "dear")
    assert "delete it" not in str(caught.value)
    EmbeddedIndex.build(tmp_path / "cut", [Passage("a", "T", "x")]).close()
    (tmp_path / "cut" / "manifest.json").unlink()
    with pytest.raises(CorpusError, match=r"not a finished index .*; delete it and build it again"):
        EmbeddedIndex.open(tmp_path / "cut")


@pytest.mark.fault("item 23: an index whose manifest has something else in one part")
def test_whatever_a_part_of_the_manifest_is_the_index_is_searched_or_there_is_an_error_of_ours(tmp_path):
    EmbeddedIndex.build(tmp_path / "index", [Passage("a", "T", "town")]).close()
    manifest = tmp_path / "index" / "manifest.json"
    for made in with_each_part_replaced(json.loads(manifest.read_text())):
        manifest.write_text(json.dumps(made))
        try:
            index = EmbeddedIndex.open(tmp_path / "index")
            assert len(index.search(["town"], 1)) == 1
        except SearchError:
            continue
        json.dumps(index.manifest.to_json(), ensure_ascii=False, allow_nan=False).encode()
        index.close()
