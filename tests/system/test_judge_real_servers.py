"""The same client and command against servers that others wrote: llama.cpp's and SGLang's."""

import asyncio
import json

import gymnasium
import pytest
from openai import OpenAI

from at2po_agent.commands import main as cli
from at2po_agent.judge.config import LimitConfig, ModelConfig
from at2po_agent.judge.endpoint.client import Call, ChatEndpoint
from at2po_agent.judge.endpoint.refusals import ContextFull, EndpointError
from at2po_agent.judge.episodes.records import read_episodes
from at2po_env.dialects import NATIVE
from examples.openai_loop import play
from tests.helpers.llama_server import llama

# The group is that of all tests that ask for the shared SGLang: half of these do, by the parameter of a fixture.
pytestmark = [pytest.mark.service, pytest.mark.timeout(900), pytest.mark.xdist_group("sglang_url")]

PATIENT = LimitConfig(retries=1, request_seconds=200)
HELLO = ({"role": "user", "content": "Who is the mayor of Paris?"},)


@pytest.fixture(params=["llama.cpp", "SGLang"])
def url(request) -> str:
    if request.param == "llama.cpp":
        return request.getfixturevalue("llama_url")
    return request.getfixturevalue("sglang_url") + "/v1"


def ask(url, *calls, name="default"):
    async def run():
        async with ChatEndpoint(ModelConfig(name, url), PATIENT) as endpoint:
            return [await endpoint.complete(call) for call in calls], endpoint.renamed

    return asyncio.run(run())


def test_an_answer_with_log_probabilities_and_counts(url):
    (reply, again), renamed = ask(url, *[Call(HELLO, 12, stop=("</search>", "</answer>"), top_logprobs=2)] * 2)
    assert reply.text and reply.text == again.text  # greedy
    assert renamed == {}  # all that we send is known there
    assert reply.finish in ("stop", "length")
    assert 0 < reply.completion_tokens <= 12 and reply.prompt_tokens > 0
    assert reply.logprobs is not None and abs(len(reply.logprobs) - reply.completion_tokens) <= 1
    assert all(token["logprob"] <= 1e-3 and len(token["top_logprobs"]) >= 2 for token in reply.logprobs)


def test_a_stop_string_ends_the_text_before_it(url):
    (free,), _ = ask(url, Call(HELLO, 12))
    words = free.text.split(" ")
    stop = " " + next(word for word in words[1:] if word)
    (stopped,), _ = ask(url, Call(HELLO, 12, stop=(stop,)))
    assert (stopped.finish, stopped.text) == ("stop", free.text[: free.text.index(stop)])
    assert stopped.matched in (None, stop)


def test_a_conversation_that_is_too_long_is_told_apart(url):
    with pytest.raises(ContextFull):
        ask(url, Call(({"role": "user", "content": "one two three " * 8000},), 12))


def test_a_wrong_address_stops_at_once(url):
    with pytest.raises(EndpointError, match="Check the model's name"):
        ask(url.replace("/v1", "/v7"), Call(HELLO, 12))


@pytest.mark.parametrize("words", [[], ["format=native"]], ids=["tags", "native"])
def test_episodes_are_whole(llama_url, tmp_path, words):
    where = ["-e", "AT2PO-HotpotQA-v0", "--split", "demo", "-m", "smollm2", "-b", llama_url, "-n", "2", "-c", "2"]
    short = ["env.on_malformed=continue", "env.max_turns=2", "env.k=1", "env.max_observation_chars=100"]
    assert cli.main(["eval", *where, *short, *words, "limits.max_turn_tokens=10", f"out={tmp_path}"]) == 0
    (run,) = tmp_path.iterdir()
    records = list(read_episodes(run))
    assert len(records) == 2
    for record in records:
        assert record.error is None and record.turns
        assert all(0 < turn.completion_tokens <= 10 and turn.prompt_tokens > 50 for turn in record.turns)
        assert record.messages[0]["content"] == record.prompt
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["action_format"] == ("native" if words else "tags")


@pytest.mark.parametrize("env_id", ["examples.number_game:Numbers-v0", "AT2PO-MicroSQL-v0"])
def test_a_task_of_tools_is_played_with_native_calls(llama_url, tmp_path, env_id):
    game = ["eval", "-e", env_id, "-m", "smollm2", "-b", llama_url, "-n", "2", "-c", "2"]
    short = ["format=native", "env.on_malformed=continue", "env.max_turns=2", "limits.max_turn_tokens=40"]
    assert cli.main([*game, *short, f"out={tmp_path}"]) == 0
    (run,) = tmp_path.iterdir()
    records = list(read_episodes(run))
    assert len(records) == 2
    for record in records:
        assert record.error is None and set(record.metrics) == {"success", "reward", "turns"}
        assert record.messages[0]["content"] == record.prompt
        called = [message for message in record.messages if message.get("tool_calls")]
        # A call that the environment could read is answered as one; any other turn by the user.
        assert len(called) >= sum(message["role"] == "tool" for message in record.messages)
        for turn in record.turns:
            assert turn.action["kind"] in ("call", "answer", "malformed") and turn.completion_tokens > 0


@pytest.mark.parametrize("dialect", ["chat", "native"])
def test_the_openai_loop_plays_an_episode(llama_url, dialect):
    env = gymnasium.make(
        "AT2PO-HotpotQA-v0",
        split="demo",
        dialect=dialect,
        on_malformed="continue",
        max_turns=2,
        k=1,
        max_observation_chars=100,
    ).unwrapped
    with OpenAI(base_url=llama_url, api_key="none", timeout=200) as client:
        info = play(client, "smollm2", env, env.questions[0].id, max_tokens=10)
    env.close()
    assert info["ended"] in ("answer", "turn_limit") and 1 <= info["turns"] <= 2


def test_a_wrong_key_ends_everything_with_one_message(tmp_path, monkeypatch, capsys):
    with llama(tmp_path / "log", "sk-right-0123") as url:
        where = ["-e", "AT2PO-HotpotQA-v0", "--split", "demo", "-m", "smollm2", "-b", url, "-k", "A_KEY", "-n", "2"]
        short = ["env.on_malformed=continue", "env.max_turns=1", "limits.max_turn_tokens=5", f"out={tmp_path / 'runs'}"]
        monkeypatch.setenv("A_KEY", "sk-wrong-0123")
        assert cli.main(["eval", *where, *short]) == 2
        (said,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        assert url in said and "Check the key that -k names" in said and "sk-" not in said
        assert not list((tmp_path / "runs").glob("*"))
        monkeypatch.setenv("A_KEY", "sk-right-0123")
        assert cli.main(["eval", *where, *short]) == 0


def test_llama_cpp_calls_the_tool(llama_url):
    (reply,), _ = ask(llama_url, Call(HELLO, 40, tools=NATIVE.tools))
    assert reply.text or reply.tool_calls
    for call in reply.tool_calls:
        assert isinstance(call["function"]["arguments"], str)
