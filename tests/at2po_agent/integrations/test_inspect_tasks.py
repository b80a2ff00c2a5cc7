"""Against the real package: what Inspect measures is what ``at2po-agent eval`` measures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("inspect_ai")

import inspect_ai
from inspect_ai.log import read_eval_log
from inspect_ai.model import get_model
from inspect_ai.solver import generate

from tests.helpers.chat_server import ChatServer, Say, failure
from tests.helpers.llama_server import llama
from tests.helpers.scripted_answers import judged, scripted_answers, with_a_small_context

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]  # of the other package

SHORT = {"max_turns": 3, "k": 1, "max_observation_chars": 200}


def inspected(task: str, url: str, limit: int, logs: Path, solver=None, **arguments: object):
    model = get_model("openai-api/local/smollm2", base_url=url, api_key="none", memoize=False)
    (log,) = inspect_ai.eval(
        f"at2po/{task}", model=model, task_args=arguments, limit=limit, solver=solver, log_dir=str(logs), display="none"
    )
    return log


def on_the_command_line(task: str, url: str, limit: int, logs: Path, **arguments: object):
    words = [word for name, value in arguments.items() for word in ("-T", f"{name}={value}")]
    program = Path(sys.executable).with_name("inspect")
    model = ["--model", "openai-api/local/smollm2", "--limit", str(limit), "--display", "none"]
    model += ["--max-samples", "1", "--max-connections", "1"]
    done = subprocess.run(
        [program, "eval", f"at2po/{task}", *model, *words, "--log-dir", logs],
        env={**os.environ, "LOCAL_BASE_URL": url, "LOCAL_API_KEY": "none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = logs.glob("*.eval")
    return read_eval_log(str(log))


def same(log, records) -> float:
    """Check that every sample has the scores and messages of the record of its question; returns the mean of EM."""
    assert log.status == "success" and len(log.samples) == len(records)
    for sample in log.samples:
        record = records[sample.id]
        measured = {name: value for name, value in record.measured.items() if value is not None}
        assert sample.scores["outcome"].value == measured
        assert [message.text for message in sample.messages] == [message["content"] for message in record.messages]
    em = sum(sample.scores["outcome"].value["em"] for sample in log.samples) / len(log.samples)
    (score,) = [score for score in log.results.scores if score.name == "em"]
    ours = sum(record.measured["em"] for record in records.values()) / len(records)
    print(f"exact match on {len(records)} questions: {em!r} by Inspect, {ours!r} by at2po-agent eval")
    assert score.metrics["mean"].value == em == ours
    return em


@pytest.mark.parametrize("thinks", [False, True])
def test_the_same_episodes_and_the_same_exact_match_to_the_digit(tmp_path, thinks):
    with ChatServer(scripted_answers("AT2PO-HotpotQA-v0", "demo", thinks=thinks)) as server:
        log = inspected("hotpotqa", server.url, 6, tmp_path / "logs", split="demo", **SHORT)
        ours = judged(server.url, 6, tmp_path / "runs", **SHORT)
    assert same(log, ours) == 0.5
    assert log.samples[0].target == list(ours[log.samples[0].id].answers)


def test_llama_cpps_server_plays_the_same_episodes_in_both(tmp_path):
    short = {**SHORT, "max_turns": 2, "on_malformed": "continue"}
    # Its greedy answers depend on what it reads together and has read before: one at a time, and a new server for each.
    with llama(tmp_path / "first") as url:
        log = on_the_command_line("hotpotqa", url, 3, tmp_path / "logs", split="demo", max_turn_tokens=24, **short)
    with llama(tmp_path / "second") as url:
        ours = judged(url, 3, tmp_path / "runs", "limits.max_turn_tokens=24", **short)
    same(log, ours)


def test_a_model_that_fails_is_an_error_and_never_a_score(tmp_path):
    with ChatServer(lambda asked: Say(status=400, raw=b'{"error": {"message": "broken"}}')) as server:
        log = inspected("hotpotqa", server.url, 2, tmp_path, split="demo", **SHORT)
    assert log.status == "error" and all(sample.error is not None and not sample.scores for sample in log.samples)


@pytest.mark.parametrize("code", ["context_length_exceeded", None])
def test_a_conversation_that_is_too_long_ends_the_episode_as_in_ours(tmp_path, code):
    say = with_a_small_context(scripted_answers("AT2PO-HotpotQA-v0", "demo"), code)
    with ChatServer(say) as server:
        log = inspected("hotpotqa", server.url, 2, tmp_path / "logs", split="demo", **SHORT)
        ours = judged(server.url, 2, tmp_path / "runs", **SHORT)
    assert same(log, ours) == 0.0
    assert {sample.scores["outcome"].explanation for sample in log.samples} == {"length_limit"}


@pytest.mark.parametrize("code", ["context_length_exceeded", "content_filter"])
def test_a_refused_question_is_an_error_and_never_a_score(tmp_path, code):
    with ChatServer(lambda asked: failure(400, "no", code=code)) as server:
        log = inspected("hotpotqa", server.url, 1, tmp_path, split="demo", **SHORT)
    assert log.status == "error" and log.samples[0].error is not None and not log.samples[0].scores


def test_every_benchmark_and_family_is_a_task():
    from inspect_ai._util.registry import registry_info

    from at2po_agent.integrations.inspect_tasks import TASKS

    assert {"hotpotqa", "nq", "musique", "bamboogle", "microwiki", "microsql"} <= set(TASKS)
    assert [registry_info(one).name for one in TASKS.values()] == [f"at2po/{name}" for name in TASKS]


def test_a_task_of_tools_is_played_with_native_calls(tmp_path):
    with ChatServer(lambda asked: Say("<answer>1</answer>")) as server:
        log = inspected("microsql", server.url, 2, tmp_path, split="test", format="native")
    assert log.status == "success"
    assert all(set(sample.scores["outcome"].value) == {"success", "reward", "turns"} for sample in log.samples)


def test_another_solver_finds_the_tool_and_is_scored_by_its_answer(tmp_path):
    def say(asked):
        if len(asked.messages) > 1:
            return Say("Paris")
        assert [one["function"]["name"] for one in asked.body["tools"]] == ["search"]
        call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"query": "town"}'}}
        return Say(None, finish="tool_calls", message={"tool_calls": [call]})

    with ChatServer(say) as server:
        log = inspected("hotpotqa", server.url, 1, tmp_path, solver=generate(), split="demo", k=2)
    (sample,) = log.samples
    assert sample.messages[2].role == "tool" and "(2)" in sample.messages[2].text
    assert sample.scores["outcome"].answer == "Paris" and sample.scores["outcome"].value == {"em": 0.0, "f1": 0.0}
