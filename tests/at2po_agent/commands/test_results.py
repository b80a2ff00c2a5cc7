"""What ``at2po-agent eval`` really leaves is what compare, rescore, view and export-traces read."""

import json
from pathlib import Path

import pytest

from at2po_agent.commands.main import main
from tests.helpers.chat_server import Say, search_then_answer
from tests.helpers.trained_runs import write_run


@pytest.fixture
def judged(serve, tmp_path, monkeypatch):
    """Two models in tags, and one with tool calls."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def native(asked):
        if asked.messages[-1]["role"] == "tool":
            return Say("<answer>Vell</answer>")
        function = {"name": "search", "arguments": json.dumps({"query": "The Salt Lantern"})}
        return Say("", message={"tool_calls": [{"id": "c1", "type": "function", "function": function}]})

    demo = ["eval", "-e", "AT2PO-HotpotQA-v0", "--split", "demo", "-n", "6"]
    scripts = {"good": search_then_answer, "idle": lambda asked: Say("<answer>no idea</answer>"), "calls": native}
    runs = {}
    for name, script in scripts.items():
        more = ["format=native"] if name == "calls" else []
        assert main([*demo, "-m", name, "-b", serve(script).url, *more]) == 0
        (runs[name],) = Path("runs").glob(f"*--{name}--*")
    return runs


def test_the_way_of_results(judged, capsys):
    good, idle, calls = (str(judged[name]) for name in ("good", "idle", "calls"))
    capsys.readouterr()
    assert main(["compare", good, idle, "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| Model | Hotpot (demo) |"
    assert "- HotpotQA demo: questions about an invented world, no result on the benchmark" in lines
    assert main(["compare", good, calls]) == 2
    assert "action_format: tags → native" in capsys.readouterr().err

    stored = (judged["good"] / "summary.json").read_text()
    assert (json.loads(stored)["env"], json.loads(stored)["split"]) == ("AT2PO-HotpotQA-v0", "demo")
    assert main(["rescore", good]) == 0
    out = capsys.readouterr().out
    assert out.startswith("HotpotQA demo: good") and "0 of 6 episodes have another score" in out
    assert json.loads((judged["good"] / "summary.json").read_text()) == json.loads(stored)

    assert main(["view", calls, "--question", "demo-0"]) == 0
    text = capsys.readouterr().out
    assert "turn 1  search" in text
    assert "(1) " in text
    assert main(["view", calls, "--html", "page.html"]) == 0

    assert main(["export-traces", calls]) == 0
    line = json.loads((judged["calls"] / "traces.jsonl").read_text().splitlines()[0])
    assert [message["role"] for message in line["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert [tool["function"]["name"] for tool in line["tools"]] == ["search"]
    assert line["metadata"]["split"] == "demo"
    assert line["messages"][1]["tool_calls"][0]["id"] == line["messages"][2]["tool_call_id"]
    assert main(["compare", good, idle, "--metric", "beauty"]) == 2
    assert "--metric: there is no 'beauty'; there are em, f1" in capsys.readouterr().err


def test_training_runs_side_by_side(tmp_path, capsys):
    runs = [str(write_run(tmp_path / name, [[0, 1], [1, 1]], algorithm=name)) for name in ("grpo", "at2po")]
    page = tmp_path / "page.html"
    assert main(["compare", *runs, "--format", "markdown", "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert "| grpo | 1 | 100.0 |" in out and "**Difference from grpo, points**" in out and page.exists()
    assert main(["compare", *runs, "--metric", "f1"]) == 2
    assert "training runs store only em for each question" in capsys.readouterr().err
    assert main(["compare", runs[0], str(tmp_path)]) == 2
    assert "not the directory of a training run" in capsys.readouterr().err
