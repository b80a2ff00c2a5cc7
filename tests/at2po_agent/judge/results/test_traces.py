"""Traces for fine-tuning: trainers' fields say what is learned, and a chat template reads them."""

import dataclasses
import json
from contextlib import closing

import gymnasium
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from at2po_agent.commands.main import main
from at2po_agent.judge.episodes.records import TurnRecord
from at2po_env.chat import messages
from tests.helpers.evaluations import answer_turn, answered, failed, malformed, search_turn, write_run


def exported(run, *words):
    out = run.parent / "traces.jsonl"
    assert main(["export-traces", str(run), "--out", str(out), *words]) == 0
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_only_the_correct_ones(tmp_path, capsys):
    run = write_run(tmp_path / "run", [answered("q1"), answered("q2", "Rom"), malformed("q3"), failed("q4")])
    (line,) = exported(run, "--only", "correct")
    assert capsys.readouterr().out == f"1 episode → {tmp_path / 'traces.jsonl'}\n"
    assert line["metadata"] == {
        "question_id": "q1",
        "sample": 0,
        "question": "Where was Somon born?",
        "answers": ["Walem"],
        "prediction": "Walem",
        "em": 1.0,
        "f1": 1.0,
        "ended": "answer",
        "searches": 1,
        "env": "AT2PO-HotpotQA-v0",
        "split": "dev",
        "model": "tiny",
        "dialect": "chat",
    }
    assert [line["metadata"]["question_id"] for line in exported(run)] == ["q1", "q2", "q3"]


def test_the_conversation_is_the_one_that_was_sent(tmp_path):
    (line,) = exported(write_run(tmp_path / "run", [episode := answered("q1")]))
    assert [message["role"] for message in line["messages"]] == ["user", "assistant", "user", "assistant"]
    assert [message["content"] for message in line["messages"]] == [m["content"] for m in episode.messages]
    assert [message.get("weight") for message in line["messages"]] == [None, 1, None, 1]


def test_a_turn_without_a_usable_action_is_not_learned(tmp_path):
    wrong = TurnRecord("eh", {"kind": "malformed", "content": None, "why": "x"}, "This turn had no usable action")
    said = [("user", "p"), ("assistant", "eh"), ("user", wrong.observation), ("assistant", "<answer>Walem</answer>")]
    sent = tuple({"role": role, "content": content} for role, content in said)
    episode = answered("q1", turns=(wrong, answer_turn("Walem")), messages=sent)
    (line,) = exported(write_run(tmp_path / "run", [episode]))
    assert [message.get("weight") for message in line["messages"]] == [None, 0, None, 1]


def test_reasoning_goes_with_its_message(tmp_path):
    turns = (dataclasses.replace(search_turn(), reasoning="I should look."), answer_turn("Walem"))
    (line,) = exported(write_run(tmp_path / "run", [answered("q1", turns=turns)]))
    assert [message.get("reasoning_content") for message in line["messages"]] == [None, "I should look.", None, None]


def test_a_result_that_nobody_answered_is_left_out(tmp_path):
    sent = (
        {"role": "user", "content": "p"},
        {"role": "assistant", "content": "s"},
        {"role": "user", "content": "r"},
    )
    (line,) = exported(write_run(tmp_path / "run", [answered("q1", turns=(search_turn(),), messages=sent)]))
    assert [message["role"] for message in line["messages"]] == ["user", "assistant"]


def test_turns_of_a_local_policy_are_learned_and_its_results_are_not(tmp_path):
    turns = (search_turn("x", [("Füße", "𝔘nicode")]), answer_turn("Walem"))
    (line,) = exported(write_run(tmp_path / "run", [answered("q1", turns=turns, messages=())]))
    prompt, said = line["messages"]
    assert prompt["content"].startswith("Answer the question below.")
    spans = said["train_detail"]
    pieces = [(said["content"][span["begin_offset"] : span["end_offset"] + 1], span["train"]) for span in spans]
    assert pieces == [(turns[0].text, True), (turns[0].observation, False), (turns[1].text, True)]
    assert "".join(text for text, _ in pieces) == said["content"]


@pytest.fixture(scope="module")
def native():
    """An episode of a real environment, in the messages that an endpoint with tools is sent."""
    with closing(gymnasium.make("at2po_env:AT2PO-HotpotQA-v0", split="demo", dialect="native").unwrapped) as env:
        env.reset(seed=0)
        call = json.dumps({"name": "search", "arguments": {"query": "the river"}})
        env.step(f"I look it up.\n<tool_call>\n{call}\n</tool_call>")
        env.step("<answer>Walem</answer>")
        return answered("q1", messages=tuple(messages(env.dialect, env.state)))


def test_tool_calls_are_answered_and_the_tools_are_named(tmp_path, native):
    (line,) = exported(write_run(tmp_path / "run", [native], dialect={"name": "native"}))
    assert [tool["function"]["name"] for tool in line["tools"]] == ["search"]
    assert [message["role"] for message in line["messages"]] == ["user", "assistant", "tool", "assistant"]
    (call,) = line["messages"][1]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "search")
    assert json.loads(call["function"]["arguments"]) == {"query": "the river"}
    assert line["messages"][2]["tool_call_id"] == call["id"]
    assert [message.get("weight") for message in line["messages"]] == [None, 1, None, 1]


TEMPLATE = """{% for message in messages %}<|{{ message.role }}|>{% if message.role == 'assistant' %}{% generation %}\
{{ message.content }}{% for call in message.tool_calls or [] %}[{{ call.function.name }}{{ call.function.arguments }}]\
{% endfor %}{% endgeneration %}{% else %}{{ message.content }}{% endif %}{% endfor %}"""


@pytest.mark.parametrize("dialect", ["chat", "native"])
def test_a_chat_template_reads_them_and_masks_what_is_not_learned(tmp_path, native, dialect):
    episode = native if dialect == "native" else answered("q1")
    (line,) = exported(write_run(tmp_path / "run", [episode], dialect={"name": dialect}))
    (text,), (learned,) = render_jinja_template(
        conversations=[line["messages"]], chat_template=TEMPLATE, return_assistant_tokens_mask=True
    )
    pieces = [text[start:end] for start, end in learned]
    said = [m for m in line["messages"] if m["role"] == "assistant"]
    assert [piece.split("[")[0] for piece in pieces] == [message["content"] for message in said]
    assert ("[search{" in pieces[0]) == (dialect == "native")


def test_nothing_is_written_where_nothing_fits(tmp_path, capsys):
    run = write_run(tmp_path / "run", [failed("q4")])
    out = tmp_path / "traces.jsonl"
    assert main(["export-traces", str(run), "--only", "correct", "--out", str(out)]) == 2
    assert "has no correct episode to export" in capsys.readouterr().err
    assert not out.exists()


def test_the_file_is_beside_the_episodes_where_none_is_named(tmp_path):
    run = write_run(tmp_path / "run", [answered("q1")])
    assert main(["export-traces", str(run), "--only", "correct"]) == 0
    assert len((run / "traces-correct.jsonl").read_text().splitlines()) == 1
