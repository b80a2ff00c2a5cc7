"""Every command about evaluations on a task that is no search: the number game, played by a model at an endpoint."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from at2po_agent.commands.main import main
from at2po_agent.judge.episodes.records import read_episodes
from at2po_agent.judge.results.stored import Finished
from at2po_env.tool_env import ToolEnv
from at2po_env.tool_rules import ToolRules, ToolTask
from tests.at2po_agent.judge.tree.test_policy import said
from tests.helpers.chat_server import ChatServer, Say
from tests.helpers.number_player import adds_and_stops
from tests.helpers.places import ROOT

GAME = "examples.number_game:Numbers-v0"
REACHED, TASKS = 7, 8  # of the first eight goals, 50 takes one turn too many


def _evaluate(out: Path, name: str, script: Any, *more: str) -> Path:
    with ChatServer(script) as server:
        where = ["eval", "-e", GAME, "-m", name, "-b", server.url, "-n", str(TASKS)]
        assert main([*where, f"out={out}", *more]) == 0
    (run,) = out.glob(f"*--{name}--*")
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A player in tags and with tool calls, and one that stops at once."""
    out = tmp_path_factory.mktemp("runs")
    return {
        "tags": _evaluate(out, "tags", adds_and_stops),
        "idle": _evaluate(out, "idle", lambda asked: Say("<stop></stop>")),
        "native": _evaluate(out, "native", adds_and_stops, "format=native"),
    }


@pytest.mark.parametrize("form", ["tags", "native"])
def test_eval_records_what_the_environment_measures(runs: dict[str, Path], form: str) -> None:
    records = {record.question_id: record for record in read_episodes(runs[form])}
    one = records["to-25"]
    assert (one.question, one.ended, one.prediction, one.em) == ("25", "done", None, None)
    assert dict(one.metrics) == {"success": 1.0, "reward": 1.0, "turns": 4.0}
    assert [turn.action["kind"] for turn in one.turns] == ["call"] * 4
    assert one.turns[-1].action["content"] == "stop()"
    assert (records["to-50"].ended, records["to-50"].score) == ("turn_limit", 0.0)
    roles = [message["role"] for message in one.messages]
    assert roles == ["user", *["assistant", "tool" if form == "native" else "user"] * 3, "assistant"]
    summary = json.loads((runs[form] / "summary.json").read_text())
    assert summary["means"]["success"]["mean"] == REACHED / TASKS and "em" not in summary["means"]
    assert "searches" not in summary["means"] and list(summary["means"])[:2] == ["success", "reward"]


def test_eval_heads_its_table_by_the_first_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _evaluate(tmp_path, "tags", adds_and_stops, "samples=2")
    out = capsys.readouterr().out
    assert "success (mean@2)" in out and "87.5%" in out and "8 tasks, 16 episodes scored" in out and "pass@2" in out


def test_eval_of_a_local_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["limits.max_turn_tokens=4", f"out={tmp_path}"]
    assert main(["eval", "-e", GAME, "-m", "builtin:microwiki", "-n", "2", *short]) == 0
    (run,) = tmp_path.iterdir()
    assert [dict(record.metrics) for record in read_episodes(run)] == [{"success": 0, "reward": 0, "turns": 1}] * 2
    assert "success" in capsys.readouterr().out


def test_eval_says_before_anything_is_asked_what_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    at = ["eval", "-e", GAME, "-m", "m", "-b", "http://127.0.0.1:9/v1"]
    assert main([*at, "env.dialect=bare"]) == 2
    assert "env.dialect is 'bare', which shows results inside" in capsys.readouterr().err
    assert main([*at, "--tree"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "--tree lets paths vote on their answers: it needs tasks with reference answers" in said


def test_a_dry_run_shows_the_first_request_and_its_tools(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "-e", GAME, "-m", "m", "-b", "http://h/v1", "--dry-run", "format=native"]) == 0
    plan, _, request = capsys.readouterr().out.partition("first prompt:\n")
    assert "test, 17 of 17 tasks" in plan and "6 turns an episode" in plan and "completion tokens" in plan
    assert [tool["function"]["name"] for tool in json.loads(request)["tools"]] == ["add", "double", "stop"]


def test_view_lists_and_shows_episodes(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(runs["tags"])]) == 0
    out = capsys.readouterr().out
    assert "success 87.5% [" in out and "over 8 tasks" in out and "EM" not in out
    assert main(["view", str(runs["tags"]), "--question", "to-15"]) == 0
    out = capsys.readouterr().out
    assert "done" in out and "success 1" in out and "gold" not in out and "turn 1  call" in out


def test_view_writes_a_page_headed_by_the_first_metric(runs: dict[str, Path], tmp_path: Path) -> None:
    assert main(["view", str(runs["native"]), "--html", str(tmp_path / "page.html")]) == 0
    packed = re.search(r'id="chunk-head">([^<]*)<', (tmp_path / "page.html").read_text())
    assert packed is not None
    head = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    assert head["first"] == {"name": "success", "title": "success", "words": "Success", "share": True}
    assert [metric["name"] for metric in head["own"]] == ["success", "reward"] and head["task"] == "task"
    assert [row["verdict"] for row in head["episodes"]] == ["correct"] * REACHED + ["wrong"] * (TASKS - REACHED)
    assert "8 tasks" in head["subtitle"]


def test_compare_is_by_the_first_metric_or_any_other(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    pair = [str(runs["tags"]), str(runs["idle"])]
    assert main(["compare", *pair, "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("**Success, %**") and "-87.5" in out and "8 tasks that every run scored" in out
    assert main(["compare", *pair, "--metric", "reward"]) == 0
    assert "reward" in capsys.readouterr().out
    assert main(["compare", *pair, "--metric", "em"]) == 2
    assert "there is no 'em'; there are success, reward, malformed" in capsys.readouterr().err
    assert main(["compare", pair[0], str(runs["native"])]) == 2
    assert "action_format: tags → native" in capsys.readouterr().err


def test_export_traces(runs: dict[str, Path], tmp_path: Path) -> None:
    for form, tools in (("tags", False), ("native", True)):
        out = tmp_path / f"{form}.jsonl"
        assert main(["export-traces", str(runs[form]), "--only", "correct", "--out", str(out)]) == 0
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert len(lines) == REACHED and all(("tools" in line) is tools for line in lines)
        assert lines[0]["metadata"]["metrics"] == {"success": 1.0, "reward": 1.0, "turns": 3.0}
        assert "em" not in lines[0]["metadata"]


def test_rescore_takes_the_stored_turns_again(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run, path = runs["tags"], runs["tags"] / "episodes.jsonl"
    stored = path.read_text()
    assert main(["rescore", str(run)]) == 0
    assert "0 of 8 episodes have another score" in capsys.readouterr().out and path.read_text() == stored
    path.write_text(stored.replace('"success": 1.0', '"success": 0.0', 1))
    assert main(["rescore", str(run)]) == 0
    out = capsys.readouterr().out
    assert "1 of 8 episodes has another score" in out and "75.0%" in out and "87.5%" in out
    assert [record.score for record in Finished.read(run).episodes].count(1.0) == REACHED
    path.write_text(stored.replace("\\n10\\n", "\\n11\\n", 1))
    assert main(["rescore", str(run)]) == 2
    assert "turn 1 of to-15 has another result than when it was played" in capsys.readouterr().err
    path.write_text(stored.replace('"question_id": "to-15"', '"question_id": "to-16"'))
    assert main(["rescore", str(run)]) == 2
    assert "there is no task 'to-16' any more" in capsys.readouterr().err
    path.write_text(stored)


def test_retokenise(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--questions", "2", "--chains", "1", "--max-turn-tokens", "4", "--split", "test"]
    assert main(["retokenise", "builtin:microwiki", GAME, *few]) == 0
    assert "own ids differ" in capsys.readouterr().out


def test_gates_without_baselines_need_a_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gates", GAME, "questions=2"]) == 2
    assert "has nothing to measure" in capsys.readouterr().err


def test_a_task_is_begun_by_its_id(runs: dict[str, Path]) -> None:
    assert [record.question_id for record in Finished.read(runs["tags"]).episodes][:2] == ["to-15", "to-20"]


def _sums(split: str, **rules: Any) -> ToolEnv:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    tasks = [ToolTask(f"{n}", f"{n} + 1", answers=(f"{n + 1}",)) for n in range(2)]
    reward = lambda end: float(end.answer in end.task.answers)  # noqa: E731
    return ToolEnv([add], tasks, reward, ToolRules.of(**rules), name="sums", split=split)


def test_a_tree_is_grown_where_tasks_have_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gymnasium.register("Sums-v0", entry_point=_sums)
    shape = ["expansion.chains=2", "expansion.per_round=1", "expansion.rounds=1"]
    try:
        with ChatServer(lambda asked: said(f"<answer>{1 + asked.body.get('seed', 0) % 2}", tokens=4)) as server:
            where = ["eval", "--tree", "-e", "Sums-v0", "-m", "m", "-b", server.url, f"out={tmp_path}"]
            assert main([*where, *shape]) == 0
        (run,) = tmp_path.iterdir()
        out = capsys.readouterr().out
        assert "success" in out and "majority of leaves" in out and "generated tokens a task" in out
        assert "(success upwards)" in (run / "curve.svg").read_text()
        assert all(record.prediction in ("1", "2") for record in read_episodes(run))
        stored = (run / "tree.json").read_text()
        assert main(["rescore", str(run)]) == 0 and (run / "tree.json").read_text() == stored
    finally:
        del gymnasium.registry["Sums-v0"]


def test_an_environment_without_a_chat_form_is_refused_at_an_endpoint(capsys: pytest.CaptureFixture[str]) -> None:
    def silent(split: str) -> ToolEnv:
        env = _sums(split)
        env.chat, env.manifest = None, lambda: {"dataset": {"name": "sums", "split": split}}  # type: ignore[method-assign]
        return env

    gymnasium.register("Silent-v0", entry_point=silent)
    try:
        assert main(["eval", "-e", "Silent-v0", "-m", "m", "-b", "http://127.0.0.1:9/v1"]) == 2
        assert "Silent-v0 cannot be played by a chat endpoint: its environment has no TaskEnv.chat" in (
            capsys.readouterr().err
        )
    finally:
        del gymnasium.registry["Silent-v0"]


FAMILIES = {
    "numbers": [f"env.id={GAME}", "policy.path=builtin:microwiki", "rollout.max_turn_tokens=8"],
    "database": ["--cfg", "microsql", "rollout.max_turn_tokens=24"],
    "maze": ["--cfg", "maze"],
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_command_takes_what_a_family_was_trained_to(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    run, judged = tmp_path / "run", tmp_path / "judged"
    short = ["train.steps=1", "train.max_seconds=null", "rollout.questions=2", "update.mini_batch=2"]
    short += ["eval.questions=4", "eval.split=test", "log.trees_every=1", f"run_dir={run}"]
    assert main(["train", *FAMILIES[family], *short]) == 0
    assert main(["eval", "-m", str(run), f"out={judged}"]) == 0
    (evaluation,) = judged.iterdir()
    assert len(list(read_episodes(evaluation))) == 4
    for of, page in ((run, "run.html"), (evaluation, "evaluation.html")):
        assert main(["view", str(of), "--html", str(tmp_path / page)]) == 0
        assert (tmp_path / page).stat().st_size > 10_000
    assert main(["view", str(evaluation)]) == 0
    capsys.readouterr()
    assert main(["show-tree", str(run)]) == 0
    assert "reward" in capsys.readouterr().out
    assert main(["export-traces", str(evaluation), "--out", str(tmp_path / "traces.jsonl")]) == 0
    assert len((tmp_path / "traces.jsonl").read_text().splitlines()) == 4
