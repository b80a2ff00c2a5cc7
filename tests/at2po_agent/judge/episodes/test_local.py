"""Local policies through ``at2po-agent eval``: the numbers are the trainer's own."""

import json
from pathlib import Path

import pytest

from at2po_agent.commands import main as cli
from at2po_agent.judge.episodes.records import read_episodes
from tests.at2po_agent.training.test_trainer import run as train

ENV = ["env.world=tiny", "env.dialect=bare", "env.k=1", "env.max_searches=4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "run"
    return path, train(path, "train.steps=2", "eval.questions=30", "eval.batch=8")


def untimed(line: bytes) -> dict:
    return {**json.loads(line), "seconds": 0}


def judged(out: Path, *words: object) -> dict[str, float]:
    assert cli.main(["eval", *map(str, words), f"out={out}"]) == 0
    (run,) = out.iterdir()
    return {record.question_id: record.em for record in read_episodes(run)}


def test_the_evaluation_of_a_run_is_the_trainers_last_one_digit_for_digit(trained, tmp_path):
    path, result = trained
    last = dict(zip(result.after.ids, result.after.values, strict=True))
    assert 0 < sum(last.values()) < len(last)
    assert judged(tmp_path / "a", "-m", path) == last  # environment, questions and batch are the run's own
    assert judged(tmp_path / "b", "-m", result.checkpoint, "-n", 30) == last
    recorded = json.loads((path / "evaluations" / "step_000002.json").read_text())
    (summary,) = (tmp_path / "a").glob("*/summary.json")
    em = json.loads(summary.read_text())["means"]["em"]["mean"]
    assert em == sum(recorded["values"]) / 30
    (manifest,) = (tmp_path / "a").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["model"]["name"] == "run-step_000002"


@pytest.mark.fault("item 15: eval -m RUN --start evaluates before against after")
def test_before_is_evaluated_against_after_in_one_command(trained, tmp_path, capsys):
    path, result = trained
    assert cli.main(["eval", "-m", str(path), "--start", f"out={tmp_path}"]) == 0
    found = {run.name.split("--")[1]: run for run in tmp_path.iterdir()}
    assert set(found) == {"builtin-microwiki", "run-step_000002"}
    for name, scores in (("builtin-microwiki", result.before), ("run-step_000002", result.after)):
        em = {record.question_id: record.em for record in read_episodes(found[name])}
        assert em == dict(zip(scores.ids, scores.values, strict=True))
    out = capsys.readouterr().out
    assert "Difference from builtin:microwiki, points" in " ".join(out.split())
    assert "MicroWiki dev: 30 questions that every run scored" in out
    assert cli.main(["eval", "-m", str(path), "--start", "--resume", f"out={tmp_path}"]) == 0
    assert len(list(tmp_path.iterdir())) == 2  # nothing was missing


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-e", "microwiki", "-m", "builtin:microwiki"], "'builtin:microwiki', is not a run: give a directory"),
        (["-e", "microwiki", "-m", "x", "-b", "http://127.0.0.1:1/v1"], "'x', is not a run"),
        (["--resume", "somewhere"], "--start needs -m RUN"),
    ],
)
def test_only_a_run_has_a_start(words, message, capsys):
    assert cli.main(["eval", "--start", *words]) == 2
    assert message in capsys.readouterr().err


def test_so_is_that_of_the_exported_folder(trained, tmp_path):
    path, result = trained
    assert cli.main(["export", str(path), str(tmp_path / "policy")]) == 0
    words = ["-e", "microwiki", "-m", tmp_path / "policy", "--split", "dev", "-n", 30, "-c", 8, *ENV]
    found = judged(tmp_path / "out", *words, "limits.max_turn_tokens=24")
    assert found == dict(zip(result.after.ids, result.after.values, strict=True))


def test_a_torn_batch_is_taken_up_without_repeating_a_record(trained, tmp_path):
    path, _ = trained
    whole = judged(tmp_path, "-m", path)
    (run,) = tmp_path.iterdir()
    lines = (run / "episodes.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 30
    (run / "episodes.jsonl").write_bytes(b"".join(lines[:11]) + lines[11][:40])
    assert cli.main(["eval", "--resume", str(run)]) == 0
    again = (run / "episodes.jsonl").read_bytes().splitlines(keepends=True)
    assert again[:11] == lines[:11] and len(again) == 30
    assert [untimed(line) for line in again] == [untimed(line) for line in lines]
    assert {record.question_id: record.em for record in read_episodes(run)} == whole


def test_samples_of_one_question_differ_and_repeat_with_the_seed(tmp_path):
    words = ["-e", "microwiki", "-m", "builtin:microwiki", "-n", 4, "-r", 3, "-T", 1, "limits.max_turn_tokens=24", *ENV]
    texts = []
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        judged(tmp_path / out, *words, "--seed", seed)
        (run,) = (tmp_path / out).iterdir()
        texts.append({record.key: [turn.text for turn in record.turns] for record in read_episodes(run)})
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 12
    assert any(texts[0][f"{id_}", 0] != texts[0][f"{id_}", 1] for id_, _ in texts[0])


def test_records_of_a_local_policy_are_whole(trained, tmp_path):
    judged(tmp_path, "-m", trained[0], "-n", 3)
    (run,) = tmp_path.iterdir()
    for record in read_episodes(run):
        assert record.prompt.strip() == record.question
        assert len(record.turns) >= 1 and record.messages == ()
        assert all(turn.prompt_tokens > 0 and 0 < turn.completion_tokens <= 24 for turn in record.turns)
        prompts = [turn.prompt_tokens for turn in record.turns]
        assert prompts == sorted(prompts)
        assert record.recall is not None


def test_a_prompt_that_is_too_long_is_an_error_of_its_own(tmp_path, capsys):
    words = ["eval", "-e", "microwiki", "-m", "builtin:microwiki", "-n", "2", *ENV, f"out={tmp_path}"]
    assert cli.main([*words, "limits.max_prompt_tokens=3"]) == 1
    (run,) = tmp_path.iterdir()
    assert all("the prompt has" in record.error for record in read_episodes(run))
    assert "no question" not in capsys.readouterr().err
