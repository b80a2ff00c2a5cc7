"""The commands on a task whose tools are those of an MCP server, named in a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("mcp")
from at2po_agent.commands.main import main
from at2po_agent.judge.episodes.records import read_episodes
from at2po_agent.warmstart.run import run as warm_start
from tests.helpers.chat_server import Asked, ChatServer, Say
from tests.helpers.mcp_task import SESSIONS, STATELESS


def doubles_two(asked: Asked) -> Say:
    """Call the only tool with 2, in the form that was asked for, and answer with its result."""
    results = [message for message in asked.messages[1:] if message["role"] in ("tool", "user")]
    if results:
        return Say(f"<answer>{results[-1]['content'].strip('<result>/ ')}".replace("\n", ""))
    if tools := asked.body.get("tools"):
        function = {"name": tools[0]["function"]["name"], "arguments": json.dumps({"n": 2})}
        call = {"id": "c1", "type": "function", "function": function}
        return Say("", finish="tool_calls", message={"tool_calls": [call]})
    return Say("<twice>2</twice>")


@pytest.mark.parametrize("form", ["tags", "native"])
def test_eval_plays_a_task_with_the_tools_of_a_server(tmp_path: Path, form: str) -> None:
    with ChatServer(doubles_two) as server:
        where = ["eval", "-e", STATELESS, "-m", "m", "-b", server.url, f"out={tmp_path}"]
        assert main([*where, *(["format=native"] if form == "native" else [])]) == 0
    (run,) = tmp_path.iterdir()
    for record in read_episodes(run):
        assert (record.error, record.ended, record.score) == (None, "answer", 1.0)
        assert "4" in record.messages[2]["content"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert "Twice n." in json.dumps(manifest)


@pytest.mark.slow
def test_train_grows_trees_with_the_tools_of_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start, run = tmp_path / "start", tmp_path / "run"
    of = [f"env.id={STATELESS}", "env.kwargs={dialect: bare}"]
    tiny = "{vocab_size: 270, hidden_size: 32, intermediate_size: 64, layers: 1, heads: 2, kv_heads: 1, head_dim: 16}"
    fit = ["episodes=64", "fit={matrix_lr: null, lr: 0.02, batch: 8, epochs: 6}", "threads=1"]
    quick = [f"model.tiny={tiny}", "model.text_episodes=4", "teacher.hasty=0.3", *fit, "eval.questions=0"]
    warm_start(None, [*of, *quick, f"output={start}"], lambda line: None)
    tree = ["rollout={questions: 2, max_turn_tokens: 8}", "algorithm.expansion={chains: 4, per_round: 2, rounds: 1}"]
    step = ["train.steps=1", "update.mini_batch=2", "eval={split: test, questions: 1}", "log.trees_every=1"]
    assert main(["train", *of, f"policy.path={start}", *tree, *step, f"run_dir={run}"]) == 0
    capsys.readouterr()
    assert main(["show-tree", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "<twice>2</twice>" in shown and "<result> 4 </result>" in shown and "reward 1" in shown


def test_a_tree_of_a_server_with_a_state_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = ["policy.path=builtin:microwiki", "env.kwargs={on_malformed: continue}", "rollout.max_turn_tokens=4"]
    small = ["rollout.questions=2", "update.mini_batch=2", "train.steps=1", "eval.questions=0"]
    assert main(["train", f"env.id={SESSIONS}", *policy, *small, f"run_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "an episode cannot be forked" in said and "pass stateless=True" in said and "how='replay'" in said
