from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from search_backend import CorpusError, Passage, read_passages
from search_backend.embedded import files

LINES = [
    '{"id": "a", "title": "T", "text": "one\\ntwo", "url": "ignored"}',
    "",
    '{"_id": "b", "title": "", "text": ""}',
    '{"id": 7, "text": "no title"}',
    '{"id": "w", "contents": "\\"A \\"quoted\\" title\\"\\ntext\\nmore"}',
    '{"id": "x", "contents": "only a title"}',
    '{"id": "u", "title": "Gödel\\u2028", "text": "naïve 🙂"}',
]
PASSAGES = [
    Passage("a", "T", "one\ntwo"),
    Passage("b", "", ""),
    Passage("7", "", "no title"),
    Passage("w", 'A "quoted" title', "text\nmore"),
    Passage("x", "only a title", ""),
    Passage("u", "Gödel\u2028", "naïve 🙂"),
]
TSV = 'id\ttext\ttitle\n1\t"Aaron ( or ; ""Ahärôn"") is\na prophet"\tAaron\n2\tplain text\tTitle\n'
TSV_PASSAGES = [Passage("1", "Aaron", 'Aaron ( or ; "Ahärôn") is\na prophet'), Passage("2", "Title", "plain text")]
PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_every_layout_in_every_packing(tmp_path, packed, newline, start):
    file = tmp_path / f"passages.jsonl{packed}"
    file.write_bytes(PACK[packed]((start + newline.join(LINES)).encode()))
    assert list(read_passages(file)) == PASSAGES
    file = tmp_path / f"psgs.TSV{packed}"
    file.write_bytes(PACK[packed]((start + TSV).encode()))
    assert list(read_passages(file)) == TSV_PASSAGES


def test_zstandard_files_of_several_frames_and_chunks(tmp_path):
    text = "".join(
        json.dumps({"id": str(i), "title": "t" * (i % 50), "text": f"{i} " * 40}) + "\n" for i in range(5_000)
    )
    half = len(text) // 2
    pack = PACK[".zst"]
    (tmp_path / "p.jsonl.zst").write_bytes(pack(text[:half].encode()) + pack(text[half:].encode()))
    read = list(read_passages(tmp_path / "p.jsonl.zst"))
    assert [p.id for p in read] == [str(i) for i in range(5_000)]
    assert read[4_999].text == "4999 " * 40


@given(st.lists(st.tuples(st.text(min_size=1), st.text(), st.text()), min_size=1))
def test_what_was_written_is_read(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("corpus")
    rows = [tuple(re.sub("[\r\n\x00]", " ", field) for field in row) for row in rows]
    with (folder / "p.jsonl").open("w", encoding="utf-8") as jsonl:
        jsonl.writelines(json.dumps(dict(zip(("id", "title", "text"), row, strict=True))) + "\n" for row in rows)
    table = io.StringIO(newline="")
    csv.writer(table, delimiter="\t").writerows([("title", "id", "text"), *((t, i, x) for i, t, x in rows)])
    (folder / "p.tsv").write_text(table.getvalue(), encoding="utf-8", newline="")
    expected = [Passage(*row) for row in rows]
    assert list(read_passages(folder / "p.jsonl")) == expected
    assert list(read_passages(folder / "p.tsv")) == expected


GOOD = b'{"id": "a", "title": "T", "text": "x"}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "b", "title": "T"', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'["b", "T", "x"]', "object is needed, not list"),
        (b'{"title": "T", "text": "x"}', "'_id' must be"),
        (b'{"id": "", "title": "T", "text": "x"}', "'id' must be"),
        (b'{"id": 1.5, "title": "T", "text": "x"}', "'id' must be .* not 1.5"),
        (b'{"id": "b", "title": "T"}', r"'text' is missing \(found: id, title\)"),
        (b'{"id": "b", "title": "T", "text": null}', "'text' must be a string, not NoneType"),
        (b'{"id": "b", "title": ["T"], "text": "x"}', "'title' must be a string, not list"),
        (b'{"id": "b", "contents": 3}', "'contents' must be a string, not int"),
        (b'{"id": "b", "title": "\xff", "text": "x"}', "not UTF-8"),
    ],
)
def test_a_bad_line_is_named_with_its_field(tmp_path, line, message):
    file = tmp_path / "bad.jsonl"
    file.write_bytes(GOOD + b"\n" + line + b"\n" + GOOD)
    reading = read_passages(file)
    assert next(reading).id == "a"
    with pytest.raises(CorpusError, match=rf"{re.escape(str(file))}, line 3: .*{message}"):
        next(reading)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id\ttext\n1\tx\n", "line 1: the header lacks the field 'title'"),
        ("id\ttext\ttitle\n1\tx\n", "line 2: 2 fields instead of 3"),
        ("id\ttext\ttitle\n1\tx\tt\n\tx\tt\n", "line 3: field 'id' is empty"),
        ('id\ttext\ttitle\n1\tx\tt\n2\t"unclosed\tt\n3\tx\tt\n', "line 3: not tab-separated"),
    ],
)
def test_a_bad_row_is_named_with_its_field(tmp_path, content, message):
    file = tmp_path / "bad.tsv"
    file.write_text(content)
    with pytest.raises(CorpusError, match=f"{re.escape(str(file))}, {message}"):
        list(read_passages(file))


@pytest.mark.parametrize("packed", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut off", "not packed", "flipped"])
def test_a_damaged_archive_is_one_clear_error(tmp_path, packed, damage):
    whole = PACK[packed](GOOD * 10_000)
    file = tmp_path / f"bad.jsonl{packed}"
    flipped = bytes([*whole[:20], *(byte ^ 0xFF for byte in whole[20:40]), *whole[40:]])
    file.write_bytes({"cut off": whole[:-5], "not packed": GOOD * 10, "flipped": flipped}[damage])
    with pytest.raises(CorpusError, match=f"{re.escape(str(file))}.*(decompressed|not JSON|not UTF-8)"):
        list(read_passages(file))


def test_a_wrong_path_fails_at_once(tmp_path):
    with pytest.raises(CorpusError, match="no such passage file"):
        read_passages(tmp_path / "nowhere.jsonl")
    with pytest.raises(CorpusError, match="no such passage file"):
        read_passages(tmp_path)
    (tmp_path / "passages.parquet").touch()
    with pytest.raises(CorpusError, match=r"\.jsonl and \.tsv"):
        read_passages(tmp_path / "passages.parquet")


SAMPLES = {  # passages, and the digest of their ids, titles and texts in the file's order
    "2wikimultihopqa": (14_408, "3891577f872f"),
    "bamboogle": (2_525, "d9afad1a313f"),
    "hotpotqa": (19_762, "293313103a4a"),
    "musique": (7_712, "f1b32ab930e5"),
    "nq": (10_114, "884de5e5239b"),
    "popqa": (7_122, "01f64ce813a4"),
    "triviaqa": (3_436, "fe48c48d36e9"),
}


def test_the_sample_corpora_are_read_without_loss(data_dir):
    assert {file.name for file in (data_dir / "corpus").iterdir()} == {f"{name}.jsonl.gz" for name in SAMPLES}
    for name, expected in SAMPLES.items():
        packed = [files.pack(passage) for passage in read_passages(data_dir / "corpus" / f"{name}.jsonl.gz")]
        assert (len(packed), hashlib.sha256(b"".join(packed)).hexdigest()[:12]) == expected
    assert sum(count for count, _ in SAMPLES.values()) == 65_079


@pytest.mark.fault("item 25: a stored file that unpacks to gigabytes")
@pytest.mark.parametrize("packed", PACK)
def test_a_line_without_an_end_is_read_no_further_than_a_passage_can_be(tmp_path, packed):
    path = tmp_path / f"c.jsonl{packed}"
    path.write_bytes(PACK[packed](b'{"id": "1", "text": "' + b"x" * (130 * 2**20)))
    tracemalloc.start()
    try:
        with pytest.raises(CorpusError, match=r"c.jsonl.*after line 0: .*a line of more than 67,108,864 bytes"):
            list(read_passages(path))
        assert tracemalloc.get_traced_memory()[1] < 190 * 2**20
    finally:
        tracemalloc.stop()
