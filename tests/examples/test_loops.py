"""The two loops of somebody's own: the objective in plain torch, and an agent at an OpenAI-compatible endpoint."""

from __future__ import annotations

import gymnasium
import pytest
from openai import OpenAI

from at2po_env import SearchQAEnv
from examples.openai_loop import play
from examples.own_loop import main
from tests.helpers.chat_server import Asked, Say, search_then_answer


def test_the_objective_trains_in_a_loop_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    first, *_, last = (float(line.split("loss ")[1].split(",")[0]) for line in capsys.readouterr().out.splitlines())
    assert abs(first) < 1e-3 and last < first


def called(asked: Asked) -> Say:
    """Searches by a tool call, then answers."""
    assert asked.body["tools"][0]["function"]["name"] == "search" and asked.body["stop"] == ["</answer>"]
    if asked.messages[-1]["role"] == "tool":
        return Say("<answer>Ann")
    call = {"id": "x", "type": "function", "function": {"name": "search", "arguments": '{"query": "Who?"}'}}
    return Say(None, finish="tool_calls", message={"tool_calls": [call]})


@pytest.mark.parametrize(("dialect", "script"), [("chat", search_then_answer), ("native", called)])
def test_an_openai_client_plays_in_tags_and_by_tools(serve, dialect: str, script) -> None:
    server = serve(script)
    env = gymnasium.make("AT2PO-HotpotQA-v0", split="demo", dialect=dialect).unwrapped
    assert isinstance(env, SearchQAEnv)
    with OpenAI(base_url=server.url, api_key="none") as client:
        info = play(client, "m", env, env.questions[0].id)
    env.close()
    assert (info["ended"], info["searches"], info["turns"]) == ("answer", 1, 2)
    assert info["prediction"]
