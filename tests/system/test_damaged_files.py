"""Stored files that are damaged in one place: a command that reads one says so in one line, or ends as ever."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from at2po_agent.commands import main as cli
from at2po_agent.training import checkpoints
from tests.helpers.hostile_json import deep, with_one_part_replaced

STORED = Path(__file__).parent / "stored"
RUN = STORED / "run"
EVALUATIONS = sorted((STORED / "evaluations").iterdir())
TREE = next(path for path in EVALUATIONS if (path / "tree.json").exists())
READ = [["view"], ["view", "--html", "page.html"], ["compare"], ["rescore"], ["export-traces"]]
TRAINED = [["show-tree"], ["view", "--html", "page.html"]]
CALMLY = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@contextmanager
def damaged(of: Path, name: str, data: bytes) -> Iterator[Path]:
    """A copy of a stored directory in which one file has other bytes."""
    folder = Path("damaged")
    shutil.copytree(of, folder)
    try:
        (folder / name).write_bytes(data)
        yield folder
    finally:
        shutil.rmtree(folder)


def status(words: list[str]) -> int:
    """Of one command, which has to end without a traceback."""
    try:
        return cli.main(words)
    except SystemExit as left:
        return int(left.code or 0)


def read_all(of: Path, name: str, data: bytes, commands: list[list[str]]) -> None:
    for verb, *rest in commands:
        with damaged(of, name, data) as folder:
            assert status([verb, str(folder), *rest]) in (0, 1, 2), (verb, name)


def hostile_dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def lines_damaged(path: Path) -> st.SearchStrategy[bytes]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return st.integers(0, len(lines) - 1).flatmap(
        lambda at: with_one_part_replaced(lines[at]).map(
            lambda line: b"".join(hostile_dump(line if n == at else old) + b"\n" for n, old in enumerate(lines))
        )
    )


def bytes_damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """One byte is another, or the end or a part in the middle is missing."""
    flipped = st.builds(
        lambda at, byte: data[:at] + bytes([byte]) + data[at + 1 :],
        st.integers(0, len(data) - 1),
        st.integers(0, 255),
    )
    cut = st.builds(
        lambda start, length: data[:start] + data[start + length :], st.integers(0, len(data)), st.integers(0, 200)
    )
    return st.one_of(flipped, cut)


@pytest.mark.fault("item 23: an evaluation's episodes in which one part is something else")
@pytest.mark.parametrize("evaluation", EVALUATIONS, ids=lambda path: path.name.split("--")[1])
@CALMLY
@given(data=st.data())
def test_damaged_episodes(evaluation: Path, data: st.DataObject) -> None:
    made = data.draw(lines_damaged(evaluation / "episodes.jsonl"))
    read_all(evaluation, "episodes.jsonl", made, READ)


@pytest.mark.fault("item 23: an evaluation's manifest or tree in which one part is something else")
@pytest.mark.parametrize("name", ["manifest.json", "tree.json"])
@CALMLY
@given(data=st.data())
def test_damaged_json_of_an_evaluation(name: str, data: st.DataObject) -> None:
    made = data.draw(with_one_part_replaced(json.loads((TREE / name).read_text())))
    read_all(TREE, name, hostile_dump(made), READ)


@pytest.mark.fault("item 23: a stored file of which some bytes are others or missing")
@CALMLY
@given(data=st.data())
def test_other_bytes(data: st.DataObject) -> None:
    of = data.draw(st.sampled_from([TREE, RUN]))
    names = {
        TREE: ["manifest.json", "tree.json", "episodes.jsonl"],
        RUN: ["config.yaml", "manifest.json", "metrics.jsonl", "evaluations/step_000001.json", TREES],
    }
    name = data.draw(st.sampled_from(names[of]))
    read_all(of, name, data.draw(bytes_damaged((of / name).read_bytes())), READ if of == TREE else TRAINED)


TREES = "trees/step_000001.jsonl.zst"


@pytest.mark.fault("item 23: a run's trees, metrics, evaluations or manifest in which one part is something else")
@pytest.mark.parametrize("name", ["manifest.json", "metrics.jsonl", "evaluations/step_000001.json", TREES])
@CALMLY
@given(data=st.data())
def test_damaged_json_of_a_run(name: str, data: st.DataObject) -> None:
    file = RUN / name
    if name == TREES:
        text = zstandard.ZstdDecompressor().decompress(file.read_bytes(), max_output_size=10**7)
        first, *rest = text.splitlines(keepends=True)
        line = hostile_dump(data.draw(with_one_part_replaced(json.loads(first)))) + b"\n"
        made = zstandard.ZstdCompressor().compress(b"".join([line, *rest]))
    elif name.endswith(".jsonl"):
        made = data.draw(lines_damaged(file))
    else:
        made = hostile_dump(data.draw(with_one_part_replaced(json.loads(file.read_text()))))
    read_all(RUN, name, made, TRAINED)


def _code(path: Path) -> None:
    """A pickle that would make a file if it ran."""

    class Runs:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return os.system, ("touch ran",)

    torch.save({"updater": {}, "rng": Runs()}, path, pickle_module=pickle)


def resumed(change: Callable[[Path], None], *words: str) -> int:
    """Go on with a run whose checkpoint was changed, and its list of digests too."""
    shutil.copytree(RUN, "run")
    shutil.copytree(STORED / "policy", "policy")
    change(Path("run"))
    (folder,) = Path("run/checkpoints").iterdir()
    listed = json.loads((folder / "checkpoint.json").read_text())
    for name in listed["files"]:
        listed["files"][name] = checkpoints.sha256(folder / name)
    (folder / "checkpoint.json").write_text(json.dumps(listed))
    return status(["train", "--resume", "run", "train.steps=2", *words])


CHECKPOINT = "checkpoints/step_000001"
DEEP = json.dumps(deep(900)).replace("[", "[" * 20).replace("]", "]" * 20)
CHANGES: dict[str, Callable[[Path], Any]] = {
    "a pickle with code": lambda run: _code(run / CHECKPOINT / "state.pt"),
    "a state of other parts": lambda run: torch.save({"updater": {}, "rng": {}}, run / CHECKPOINT / "state.pt"),
    "no state": lambda run: (run / CHECKPOINT / "state.pt").write_bytes(b"x"),
    "weights that are none": lambda run: (run / CHECKPOINT / "model/model.safetensors").write_bytes(b"x" * 50),
    "a configuration of no model": lambda run: (run / CHECKPOINT / "model/config.json").write_text(DEEP),
    "a deep position": lambda run: (run / CHECKPOINT / "position.json").write_text(DEEP),
    "another position": lambda run: (run / CHECKPOINT / "position.json").write_text('{"step": "x"}'),
    "a byte 0xff": lambda run: (run / "metrics.jsonl").write_bytes(b"\xff\n"),
    "deep metrics": lambda run: (run / "metrics.jsonl").write_text(DEEP + "\n"),
    "metrics without a step": lambda run: (run / "metrics.jsonl").write_text('{"reward": 1}\n'),
    "deep sessions": lambda run: (run / "manifest.json").write_text(DEEP),
    "no sessions": lambda run: (run / "manifest.json").write_text('{"sessions": [3]}'),
    "an endless session": lambda run: (run / "manifest.json").write_text(
        '{"sessions": [{"from_step": -100000000000}]}'
    ),
    "a deep configuration": lambda run: (run / "config.yaml").write_text("[" * 2000 + "]" * 2000),
    "metrics that are a directory": lambda run: ((run / "metrics.jsonl").unlink(), (run / "metrics.jsonl").mkdir()),
}


@pytest.mark.fault("R9: a pickle with code in a checkpoint, and other damage that a run goes on from, is one line")
@pytest.mark.parametrize("kind", CHANGES)
def test_a_damaged_run_does_not_go_on(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert resumed(CHANGES[kind]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(said) == 1 and "run" in said[0]
    assert not Path("ran").exists()


EPISODES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a word as a score": lambda one: one | {"em": "x"},
    "a huge count": lambda one: one | {"searches": 10**200},
    "a count of 400 digits": lambda one: one | {"searches": 10**400},
    "a negative count": lambda one: one | {"searches": -1},
    "a huge sample": lambda one: one | {"sample": 2**80},
    "no finite number": lambda one: one | {"f1": float("nan")},
    "deep messages": lambda one: one | {"messages": deep(500)},
}


@pytest.mark.fault('R9: episodes.jsonl with "em": "x", huge or negative counts, deep JSON')
@pytest.mark.parametrize("words", [*READ, ["eval", "--resume"]], ids="-".join)
@pytest.mark.parametrize("kind", EPISODES)
def test_an_episode_that_is_none(kind: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    one = json.loads((TREE / "episodes.jsonl").read_text().splitlines()[0])
    line = hostile_dump(EPISODES[kind](one)) + b"\n"
    with damaged(TREE, "episodes.jsonl", line) as folder:
        verb, *rest = words
        assert status([verb, *rest, str(folder)] if verb == "eval" else [verb, str(folder), *rest]) == 2
    if verb != "eval":
        assert "episodes.jsonl:1: " in capsys.readouterr().err


@pytest.mark.fault("R9: surrogates in episodes.jsonl")
@pytest.mark.parametrize("words", READ, ids="-".join)
def test_surrogates_are_shown_as_what_they_are(words: list[str]) -> None:
    one = json.loads((TREE / "episodes.jsonl").read_text().splitlines()[0])
    with damaged(
        TREE, "episodes.jsonl", hostile_dump(one | {"question": "\ud800", "prediction": "\udfff"}) + b"\n"
    ) as folder:
        verb, *rest = words
        assert status([verb, str(folder), *rest]) == 0


CONFIGS = {
    "nested 2,000 deep": "[" * 2000 + "]" * 2000,
    "mappings 2,000 deep": "{a: " * 2000 + "1" + "}" * 2000,
    "itself": "name: ${name}\n",
    "an endless base": "base: /dev/zero\n",
    "a name of 400 characters": f"name: {'x' * 400}\n",
    "a date that is none": "name: 2024-99-99\n",
    "an alias of itself": "name: &a [*a]\n",
    "aliases of aliases": "name: 1\ntags: {a0: &a0 [x, x]"
    + "".join(f", a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))
    + "}\n",
    "merged aliases": "env:\n  kwargs:\n    a0: &a0 {x: 1}\n"
    + "".join(f"    a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40)),
    "references to references": "env:\n  kwargs:\n    a0: xxxxxxxx\n"
    + "".join(f"    a{i}: ${{env.kwargs.a{i - 1}}}${{env.kwargs.a{i - 1}}}\n" for i in range(1, 40)),
    "a number of 5,000 digits": f"seed: {'9' * 5000}\n",
    "two megabytes": f"name: {'x' * 2**21}\n",
}


@pytest.mark.fault("R9: YAML nested 2,000 deep, name: ${name}, base: /dev/zero")
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("verb", ["train", "eval", "plan", "gates"])
def test_a_configuration_that_cannot_be_used(kind: str, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text(CONFIGS[kind])
    assert status([verb, "--cfg", "c.yaml"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) < 4


@pytest.mark.fault("R9: -m '[/red]' and a model name of 400 characters")
@pytest.mark.parametrize("model", ["[/red]", "x" * 400, "a/" * 200])
def test_names_of_models_are_text(model: str) -> None:
    words = ["AT2PO-HotpotQA-v0", "--split", "demo", "-n", "1", "-b", "http://127.0.0.1:9/v1"]
    assert status(["eval", *words, "-m", model]) in (1, 2)
    assert status(["eval", *words, "-m", model, "--dry-run"]) in (0, 2)
