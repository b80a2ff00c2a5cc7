"""Against the real package: ``vf-eval`` measures what ``at2po-agent eval`` measures, on the same messages."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("at2po_tasks")

from at2po_agent.environments import make_env
from tests.helpers.chat_server import ChatServer, Say, failure
from tests.helpers.llama_server import llama
from tests.helpers.scripted_answers import judged, scripted_answers, with_a_small_context

pytestmark = [pytest.mark.integration, pytest.mark.timeout(280)]

SHORT = {"max_turns": 3, "k": 1, "max_observation_chars": 200}


def verified(url: str, limit: int, out: Path, tokens: int = 512, more: Sequence[str] = (), **arguments: object):
    """The traces of ``vf-eval``, greedy, by task id."""
    program = Path(sys.executable).with_name("vf-eval")
    where = [
        "--client.base-url",
        url,
        "--client.api-key-var",
        "NO_KEY",
        "-n",
        str(limit),
        "-c",
        "1",
        "--no-push",
        "-o",
        str(out),
    ]
    taskset = ["--env.taskset.split", "demo", "--env.taskset.arguments", json.dumps(arguments)]
    taskset += ["--env.taskset.max-turn-tokens", str(tokens), "--env.agent.runtime.type", "subprocess"]
    command = [program, "at2po-tasks", "-m", "smollm2", *where, *taskset, *more, "--sampling.temperature", "0"]
    env = {**os.environ, "NO_KEY": "none"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    (path,) = out.glob("*/traces.jsonl")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == limit, done.stdout + done.stderr
    return {line["task"]["data"]["id"]: line for line in lines}


def same(episodes, records) -> float:
    """Check that every episode has the metrics and messages of its question's record; returns the mean of EM."""
    assert episodes.keys() == records.keys()
    for task_id, episode in episodes.items():
        record, (trace,) = records[task_id], episode["traces"]
        assert episode["ok"] and not episode["errors"]
        assert trace["metrics"] == {name: value for name, value in record.measured.items() if value is not None}
        said = [node["message"]["content"] for node in trace["nodes"]]
        # What the model wrote is recorded as it came, and once more as the conversation goes on with it.
        assert {message["content"].removesuffix("</search>") for message in record.messages} <= {
            text.removesuffix("</search>") for text in said
        } | {record.messages[-1]["content"]}
        assert not any(answer in json.dumps(episode["task"]) for answer in record.answers)
    theirs = sum(episode["traces"][0]["metrics"]["em"] for episode in episodes.values()) / len(episodes)
    ours = sum(record.measured["em"] for record in records.values()) / len(records)
    print(f"exact match on {len(records)} questions: {theirs!r} by vf-eval, {ours!r} by at2po-agent eval")
    assert theirs == ours
    return theirs


@pytest.mark.parametrize("env_id", ["AT2PO-MicroWiki-v0", "AT2PO-MicroSQL-v0", "AT2PO-Maze-v0"])
def test_every_task_family_is_a_taskset_without_its_answers(env_id):
    at2po_tasks = importlib.import_module("at2po_tasks")
    config = at2po_tasks.At2poConfig(id="at2po-tasks", environment=env_id, split="test")
    tasks = at2po_tasks.At2poTaskset(config).take(2)
    env = make_env(env_id, "test", {})
    assert [(task.data.id, task.data.prompt) for task in tasks] == [
        (task_id, env.task(task_id).text) for task_id in env.tasks[:2]
    ]
    assert not any("answers" in json.dumps(task.data.model_dump(mode="json")) for task in tasks)
    env.close()


def test_the_same_exact_match_to_the_digit(tmp_path):
    with ChatServer(scripted_answers("AT2PO-HotpotQA-v0", "demo")) as server:
        theirs = verified(server.url, 6, tmp_path / "theirs", **SHORT)
        ours = judged(server.url, 6, tmp_path / "ours", **SHORT)
    assert same(theirs, ours) == 0.5
    rewards = [episode["traces"][0]["rewards"]["outcome"]["score"] for episode in theirs.values()]
    assert sum(rewards) == 3.0


def test_llama_cpps_server_plays_the_same_episodes_in_both(tmp_path):
    short = {**SHORT, "max_turns": 2, "on_malformed": "continue"}
    # Its greedy answers depend on what it reads together and has read before: one at a time, and a new server for each.
    with llama(tmp_path / "first") as url:
        theirs = verified(url, 3, tmp_path / "theirs", 24, **short)
    with llama(tmp_path / "second") as url:
        ours = judged(url, 3, tmp_path / "ours", "limits.max_turn_tokens=24", **short)
    same(theirs, ours)


def test_a_conversation_that_is_too_long_ends_the_episode_as_in_ours(tmp_path):
    with ChatServer(with_a_small_context(scripted_answers("AT2PO-HotpotQA-v0", "demo"))) as server:
        theirs = verified(server.url, 2, tmp_path / "theirs", **SHORT)
        asked, server.asked = [[one.body[name] for name in ("messages", "max_tokens")] for one in server.asked], []
        ours = judged(server.url, 2, tmp_path / "ours", **SHORT)
        assert asked == [[one.body[name] for name in ("messages", "max_tokens")] for one in server.asked]
    assert same(theirs, ours) == 0.0
    for task_id, episode in theirs.items():
        (trace,) = episode["traces"]
        assert trace["info"]["at2po"]["ended"] == ours[task_id].ended == "length_limit"
        assert trace["info"]["at2po"]["prediction"] == ours[task_id].prediction
        assert trace["rewards"]["outcome"]["score"] == 0.0 and trace["stop_condition"] == "max_total_tokens"


def test_a_question_that_is_too_long_is_an_error_and_never_a_score(tmp_path):
    with ChatServer(lambda asked: failure(400, "no", code="context_length_exceeded")) as server:
        (episode,) = verified(server.url, 1, tmp_path, **SHORT).values()
    assert not episode["ok"] and not episode["traces"][0].get("rewards", {}).get("outcome")


def test_a_limit_of_verifiers_ends_the_episode_with_a_score(tmp_path):
    with ChatServer(scripted_answers("AT2PO-HotpotQA-v0", "demo")) as server:
        (episode,) = verified(server.url, 1, tmp_path, more=["--env.agent.max-turns", "1"], **SHORT).values()
        assert server.count == 1
    (trace,) = episode["traces"]
    assert episode["ok"] and trace["stop_condition"] == "max_turns" and trace["metrics"]["em"] == 0.0
    assert trace["info"]["at2po"]["ended"] == "length_limit"


def test_a_model_that_fails_is_an_error_and_never_a_score(tmp_path):
    with ChatServer(lambda asked: Say(status=400, raw=b'{"error": {"message": "broken"}}')) as server:
        (episode,) = verified(server.url, 1, tmp_path, **SHORT).values()
    assert not episode["ok"] and not episode["traces"][0].get("rewards", {}).get("outcome")
