"""A scripted model for two evaluation suites to play alike: it searches, then answers every other question rightly."""

from __future__ import annotations

import json
from pathlib import Path

from at2po_agent.commands.main import main
from at2po_agent.environments import make_env
from at2po_agent.judge.episodes.records import EpisodeRecord, read_episodes
from tests.helpers.chat_server import Asked, Say, Script, failure

RIGHT_EVERY = 2
DEMO = ("eval", "-e", "AT2PO-HotpotQA-v0", "--split", "demo", "-m", "smollm2")


def scripted_answers(env_id: str, split: str, *, thinks: bool = False, native: bool = False) -> Script:
    env = make_env(env_id, split, {})
    golds = {task.text: task.answers[0] for task in map(env.task, env.tasks)}
    wrong = {text: number % RIGHT_EVERY for number, text in enumerate(golds)}
    env.close()

    def say(asked: Asked) -> Say:
        question = next(text for text in golds if text in asked.messages[0]["content"])
        thought = "<think>\nwhere?\n</think>\n" if thinks else ""
        if len(asked.messages) == 1 and native:
            arguments = json.dumps({"query": question})
            call = {"id": "call1", "type": "function", "function": {"name": "search", "arguments": arguments}}
            return Say(None, finish="tool_calls", message={"tool_calls": [call]})
        if len(asked.messages) == 1:
            return Say(f"{thought}<search>{question}</search>")
        return Say(f"{thought}<answer>{'nobody' if wrong[question] else golds[question]}</answer>")

    return say


def with_a_small_context(script: Script, code: str | None = "context_length_exceeded") -> Script:
    """A model that can read a question and write 40 tokens, and no more."""

    def say(asked: Asked) -> Say:
        wanted = asked.body["max_tokens"]
        read = 60 if len(asked.messages) == 1 else 100
        if read + wanted <= 100:
            return script(asked)
        said = f"This model's maximum context length is 100 tokens. However, you requested {read + wanted} tokens"
        return failure(400, said, code=code)

    return say


def judged(url: str, limit: int, out: Path, *words: str, **arguments: object) -> dict[str, EpisodeRecord]:
    """The episodes of ``at2po-agent eval`` by question, for another suite's to be compared with."""
    env = [f"env.{name}={value}" for name, value in arguments.items()]
    assert main([*DEMO, "-b", url, "-n", str(limit), "-c", "1", *env, *words, f"out={out}"]) == 0
    (run,) = out.iterdir()
    return {record.question_id: record for record in read_episodes(run)}
