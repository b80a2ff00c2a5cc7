"""``at2po-agent index`` as a user types it."""

import gzip
import json

import pytest

from at2po_agent.commands.main import main
from at2po_env import passages
from search_backend import EmbeddedIndex

LINES = [
    {"id": "1", "title": "Tivaro", "text": "Tivaro is a town on the Ossel."},
    {"id": "2", "title": "Ossel", "text": "The Ossel is a river."},
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "passages.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def test_build_info_search(tmp_path, file, capsys):
    uri = f"embedded:{tmp_path / 'index'}"
    assert main(["index", "build", uri, str(file), "--analyzer", "english"]) == 0
    built = capsys.readouterr().out
    assert main(["index", "info", uri]) == 0
    info = json.loads(capsys.readouterr().out)
    manifest = EmbeddedIndex.open(tmp_path / "index").manifest
    assert info == {**manifest.to_json(), "digest": manifest.digest}
    assert info["analyzer"] == "english"
    assert built.startswith("2 passages in ") and info["corpus_digest"] in built
    assert main(["index", "search", uri, "river", "nothing", "-k", "1"]) == 0
    out = capsys.readouterr().out
    assert "river: 1 passages" in out and "2  Ossel" in out and "nothing: 0 passages" in out


@pytest.mark.fault("S: words of scripts without spaces, and accents")
def test_words_that_the_analyzer_cannot_find_are_a_warning_and_multilingual_finds_them(tmp_path, file, capsys):
    foreign = [("3", "北京", "北京是中华人民共和国的首都。"), ("4", "Beyoncé", "A singer.")]
    lines = [json.dumps({"id": id_, "title": title, "text": text}) + "\n" for id_, title, text in foreign]
    file.write_text(file.read_text() + "".join(lines))
    for analyzer, found in (("standard", 0), ("multilingual", 1)):
        uri = f"embedded:{tmp_path / analyzer}"
        assert main(["index", "build", uri, str(file), "--analyzer", analyzer]) == 0
        warned = capsys.readouterr().err
        assert ("1 of 4 passages have Chinese, Japanese" in warned) == ("1 of 4 passages have accented" in warned)
        assert ("--analyzer multilingual" in warned) == (analyzer == "standard")
        assert main(["index", "search", uri, "首都", "Beyonce", "river"]) == 0
        out = capsys.readouterr().out
        assert f"首都: {found} passages" in out and f"Beyonce: {found} passages" in out and "river: 1 passages" in out


def test_several_files_and_a_beir_folder(tmp_path, file, capsys):
    folder = tmp_path / "beir"
    folder.mkdir()
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "b", "title": "Grenda", "text": "A village."}\n'))
    assert main(["index", "build", f"embedded:{tmp_path / 'index'}", str(file), str(folder)]) == 0
    assert "3 passages" in capsys.readouterr().out


def test_files_that_overlap_are_one_corpus(tmp_path, file, capsys):
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps(line) + "\n" for line in [*LINES, {"id": "3", "title": "T", "text": "new"}]))
    assert main(["index", "build", f"embedded:{tmp_path / 'index'}", str(file), str(more)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("3 passages in ") and "left out: 2 duplicates, equal in id, title and text" in out
    more.write_text(json.dumps({**LINES[0], "text": "changed"}))
    assert main(["index", "build", f"embedded:{tmp_path / 'other'}", str(file), str(more)]) == 2
    assert "two different passages have the id '1': number 1 (title 'Tivaro') and number 3" in capsys.readouterr().err


def test_the_contexts_of_a_benchmark(tmp_path, data_dir, capsys):
    command = ["index", "build", f"embedded:{tmp_path / 'index'}", "--benchmark", "musique", "--split", "dev"]
    assert main([*command, "--data-dir", str(data_dir)]) == 0
    assert EmbeddedIndex.open(tmp_path / "index").manifest.passages > 1_000


def test_contexts_are_those_of_every_installed_split_and_never_the_demos(tmp_path, data_dir, capsys):
    folder = tmp_path / "data" / "hotpotqa"
    folder.mkdir(parents=True)
    for name in ("hotpot_dev_distractor_v1.json", "hotpot_train_v1.1.json"):
        (folder / name).symlink_to(data_dir / "hotpotqa" / name)
    command = ["index", "build", f"embedded:{tmp_path / 'index'}", "--benchmark", "hotpotqa"]
    assert main([*command, "--data-dir", str(tmp_path)]) == 2
    assert "no data for split 'train'" in capsys.readouterr().err
    assert main([*command, "--data-dir", str(tmp_path / "data")]) == 0
    expected = len(list(passages("hotpotqa", ["train", "dev"], data_dir=data_dir)))
    assert EmbeddedIndex.open(tmp_path / "index").manifest.passages == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embedded:INDEX"], "give passage files, or --benchmark NAME"),
        (["http://host/retrieve", "FILE"], "an index is built at embedded:DIR or elasticsearch:"),
        (["embedded:", "FILE"], "an index is built at embedded:DIR or elasticsearch:"),
        (["embedded:INDEX", "FILE", "--title-boost", "0"], "title_boost must be an integer from 1 to 100"),
        (["elasticsearch://127.0.0.1:9/x", "FILE", "--memory-mb", "0"], "memory_mb must be at least 32, not 0"),
        (["elasticsearch://127.0.0.1:9/x", "FILE", "--title-boost", "-1"], "title_boost must be an integer from 1"),
        (["embedded:INDEX", "nowhere.jsonl"], "nowhere.jsonl: no such passage file"),
        (["embedded:INDEX", "--benchmark", "other"], "--benchmark other: not one of"),
        (["embedded:INDEX", "--benchmark", "musique", "--split", "x"], "--split x: musique has"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, file, capsys, arguments, message):
    arguments = [word.replace("INDEX", str(tmp_path / "index")).replace("FILE", str(file)) for word in arguments]
    assert main(["index", "build", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "index").exists()


def test_a_bad_line_names_itself(tmp_path, file, capsys):
    with file.open("a") as stream:
        stream.write('{"id": "3", "title": "T"}\n')
    assert main(["index", "build", f"embedded:{tmp_path / 'index'}", str(file)]) == 2
    assert f"{file}, line 3: field 'text' is missing" in capsys.readouterr().err


@pytest.mark.service
def test_to_elasticsearch(elasticsearch_host, name, file, capsys):
    uri = f"elasticsearch://{elasticsearch_host}/{name}"
    assert main(["index", "build", uri, str(file)]) == 0
    assert "2 passages" in capsys.readouterr().out
    assert main(["index", "search", uri, "river"]) == 0
    assert "2  Ossel" in capsys.readouterr().out
