"""An agent loop with the OpenAI client: ``python examples/openai_loop.py http://127.0.0.1:8080/v1 MODEL [native]``."""

import sys
from collections.abc import Sequence
from typing import Any

import gymnasium
from openai import OpenAI

from at2po_env import SearchQAEnv
from at2po_env.chat import messages, turn_text


def play(client: OpenAI, model: str, env: SearchQAEnv, task_id: str, max_tokens: int = 256) -> dict[str, Any]:
    """One episode, and what its last ``info`` says; the dialect decides whether the model acts in tags or by tools."""
    _, info = env.reset(options={"task_id": task_id})
    stops = env.dialect.stop[-1:] if env.dialect.tools else env.dialect.stop
    options: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "temperature": 0, "stop": list(stops)}
    if env.dialect.tools:
        options["tools"] = list(env.dialect.tools)
    while "ended" not in info:
        asked: Any = messages(env.dialect, env.state)
        reply = client.chat.completions.create(messages=asked, **options)
        turn = turn_text(reply.choices[0].message.model_dump())
        if reply.choices[0].finish_reason == "stop":
            turn += cut_off(turn, stops)
        info = env.step(turn)[4]
    return info


def cut_off(turn: str, stops: Sequence[str]) -> str:
    """The closing tag at which an endpoint stopped and which it left out."""
    last = max(stops, key=lambda end: turn.rfind(end.replace("</", "<")))
    return last if last.replace("</", "<") in turn and last not in turn else ""


def main() -> None:
    """Play the first three questions of the demo."""
    address, model, *rest = sys.argv[1:]
    dialect = "native" if rest == ["native"] else "chat"
    env = gymnasium.make("AT2PO-HotpotQA-v0", split="demo", dialect=dialect, on_malformed="continue").unwrapped
    assert isinstance(env, SearchQAEnv)
    with OpenAI(base_url=address, api_key="none") as client:
        for question in env.questions[:3]:
            info = play(client, model, env, question.id)
            print(f"{question.question}\n  {info['ended']}: {info['prediction']} (EM {info['em']})")
    env.close()


if __name__ == "__main__":
    main()
