from dataclasses import replace

import pytest

from at2po_agent.atomic_files import DiskError
from at2po_agent.judge.config import JudgeConfig, ModelConfig, load_judge_config
from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.judge.results.directory import JudgeDirectory, latest, read_config
from at2po_agent.training.run_dir import RunDirError
from tests.helpers.faults import disk_with_room_for

MANIFEST = {"questions": ["a", "b"], "limits": {"k": 3}, "created": "now", "code": {"packages": {}}}


@pytest.fixture
def config(tmp_path):
    return JudgeConfig(
        envs=("AT2PO-NQ-v0",), model=ModelConfig("org/m:8b", "http://h/v1"), split="demo", out=str(tmp_path)
    )


def record(id_: str, **fields) -> EpisodeRecord:
    return EpisodeRecord(id_, 0, "question?", ("yes",), "answer", "yes", 1.0, 1.0, 1.0, **fields)


def test_what_is_appended_is_there_again(config):
    with JudgeDirectory.create(config, MANIFEST) as directory:
        directory.append([record("a")])
        assert directory.path.name.startswith("AT2PO-NQ-v0--org-m-8b--")
    with JudgeDirectory.resume(directory.path, MANIFEST) as again:
        again.append([record("b")])
        assert [found.question_id for found in again.records()] == ["a", "b"]
    assert read_config(directory.path) == load_judge_config(directory.path / "config.yaml") == config


def test_a_torn_last_line_is_dropped_and_the_next_one_starts_clean(config):
    with JudgeDirectory.create(config, MANIFEST) as directory:
        directory.append([record("a"), record("b")])
    file = directory.path / "episodes.jsonl"
    whole = file.read_bytes()
    for cut in (1, 40, len(whole) // 2 - 1):
        file.write_bytes(whole[:-cut])
        with JudgeDirectory.resume(directory.path, MANIFEST) as again:
            again.append([record("c")])
            assert [found.question_id for found in again.records()] == ["a", "c"]


def test_a_full_disk_leaves_no_half_line(config, tmp_path):
    with JudgeDirectory.create(config, MANIFEST) as directory:
        directory.append([record("a")])
        with disk_with_room_for(20_000), pytest.raises(DiskError, match=r"episodes\.jsonl"):
            directory.append([record("b", prompt="x" * 100_000)])
        assert (directory.path / "episodes.jsonl").read_bytes().endswith(b"\n")
        directory.append([record("c")])
        assert [found.question_id for found in directory.records()] == ["a", "c"]


def test_the_newest_run_of_a_model_is_found(config):
    assert latest(config) is None
    made = []
    for _ in range(2):
        with JudgeDirectory.create(config, MANIFEST) as directory:
            made.append(directory.path)
    assert latest(config) == made[1] != made[0]
    assert latest(replace(config, model=ModelConfig("org/m", "http://h/v1"))) is None
    assert latest(replace(config, envs=("AT2PO-PopQA-v0",))) is None


def test_a_damaged_line_or_manifest_is_told(config):
    with JudgeDirectory.create(config, MANIFEST) as directory:
        directory.append([record("a"), record("b")])
    file = directory.path / "episodes.jsonl"
    file.write_bytes(b"{}\n" + file.read_bytes())
    with (
        JudgeDirectory.resume(directory.path, MANIFEST) as again,
        pytest.raises(RunDirError, match=r"jsonl:1: .*restore"),
    ):
        again.records()
    (directory.path / "manifest.json").write_text("{")
    with pytest.raises(RunDirError, match=r"manifest\.json: not JSON"):
        JudgeDirectory.resume(directory.path, MANIFEST)
