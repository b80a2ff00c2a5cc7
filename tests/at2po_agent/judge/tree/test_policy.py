"""A chat endpoint as a policy: what it said is what is decoded, and a fork is sent as the messages that it is."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.judge.config import JudgeConfig, LimitConfig, ModelConfig
from at2po_agent.judge.endpoint.client import ChatEndpoint
from at2po_agent.judge.endpoint.refusals import EndpointError
from at2po_agent.judge.tree.policy import EndpointLost, TreePolicy, split_text
from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.rollouts.grow import Actor, Limits, grow
from at2po_env.chat import messages
from tests.helpers.chat_server import Say, failure
from tests.helpers.env_doubles import make_env


@pytest.mark.parametrize(
    ("text", "tokens", "pieces"),
    [
        (b"abc", [b"a", b"bc"], [b"a", b"bc"]),
        (b"ab</search>", [b"a", b"b"], [b"a", b"b</search>"]),  # the stop string was left out
        (b"a</s>", [b"a", b"</s", b">x", b"y"], [b"a", b"</s", b">"]),  # it was not, and the model went on
        (b"a", [b"think", b"a"], [b"", b"a"]),  # thoughts were taken out
        (b"", [b"x"], [b""]),
        (b"", [], []),
        (b"ab", [], [b"ab"]),
        ("é".encode(), [b"\xc3", b"\xa9"], [b"\xc3", b"\xa9"]),  # half a character is a token
    ],
)
def test_a_turn_is_split_at_its_tokens(text, tokens, pieces):
    assert split_text(text, tokens) == pieces


@given(st.text(max_size=8), st.lists(st.binary(max_size=3), max_size=5))
def test_the_pieces_are_the_text_and_never_more_than_the_tokens(text, tokens):
    pieces = split_text(text.encode(), tokens)
    assert b"".join(pieces).decode() == text
    assert len(pieces) <= max(len(tokens), 1)


def said(text, stop="", entropy=1.0, tokens=None):
    """What a server says that gives a log-probability for every word."""
    words = [f"{word} " for word in text.split(" ")]
    words[-1] = words[-1][:-1]
    content = [{"token": word, "bytes": list(word.encode()), "logprob": -entropy} for word in words]
    usage = {"prompt_tokens": 100, "completion_tokens": tokens or len(words)}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
        "logprobs": {"content": content},
    }
    return Say(raw=json.dumps({"choices": [choice], "usage": usage}).encode())


def turns(asked):
    return sum(message["role"] == "assistant" for message in asked.messages)


def two_searches(asked):
    """The first search is certain, the second is not; what is asked for depends on the seed."""
    if turns(asked) == 2:
        return said(f"<answer>Paris {asked.body['seed'] % 3}")
    query = "Tower A" if turns(asked) == 0 else f"Paris {asked.body['seed'] % 1000}"
    return said(f"<search>{query}", entropy=0.1 if turns(asked) == 0 else 2.0)


def grown(server, expansion, limits=None, env=None, **kwargs):
    env = env or make_env(dialect="chat", k=1)
    env.reset(options={"question_id": "q1"})
    model = ModelConfig(name="m", base_url=server.url)
    config = JudgeConfig(model=model, temperature=1.0, limits=limits or LimitConfig(retries=0), **kwargs)

    async def run():
        async with ChatEndpoint(model, config.limits, concurrency=8) as endpoint:
            policy = TreePolicy(env, endpoint, config)
            tree = await grow(env, Actor(policy, policy, limits=Limits(retries=0)), expansion)
            return policy, tree

    return env, *asyncio.run(run())


def test_a_tree_branches_where_the_endpoint_was_uncertain_and_asks_with_the_prefix_of_the_messages(serve):
    server = serve(two_searches)
    env, policy, tree = grown(server, EntropyGuided(chains=2, per_round=2, rounds=1))
    assert len(tree.leaves) == 4
    assert [branch.node for branch in tree.proposals[1]] == [1, 2]  # the second searches are sampled again
    assert tree[1].entropy == pytest.approx(0.1) and tree[3].entropy == pytest.approx(2.0)
    for leaf in tree.leaves:
        state = tree[leaf].snapshot
        conversation = policy.turns[tree[leaf].action[-1]].conversation
        assert conversation.messages == messages(env.dialect, state)
        assert [policy.decode_action(tree[node].action) for node in tree.path(leaf)] == [t.text for t in state.turns()]
    sent = [asked.messages for asked in server.asked]
    for branch in server.asked[-4:-2]:  # both branches begin after the first search of their chain
        assert [message["role"] for message in branch.messages] == ["user", "assistant", "user"]
        assert branch.messages in sent[2:4]
    assert len({asked.body["seed"] for asked in server.asked}) == len(server.asked)
    assert all(asked.body["logprobs"] is True for asked in server.asked)
    assert {turn.path for turn in policy.turns.values()} == {0, 1, 2, 3}


def test_equal_seeds_grow_equal_trees(serve):
    def look(seed):
        server = serve(two_searches)
        _, policy, tree = grown(server, EntropyGuided(chains=2, per_round=2, rounds=1), seed=seed)
        return [(node.parent, policy.decode_action(node.action), node.logp) for node in tree.nodes]

    assert look(3) == look(3) != look(4)


def test_native_calls_fork_as_tool_messages(serve):
    def script(asked):
        if turns(asked):
            return said("<answer>Paris")
        body = json.loads(said("I look").raw)
        call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"query": "Tower A"}'}}
        body["choices"][0]["message"]["tool_calls"] = [call]
        return Say(raw=json.dumps(body).encode())

    server = serve(script)
    _, policy, tree = grown(server, EntropyGuided(chains=1, per_round=1, rounds=1), env=make_env(dialect="native", k=1))
    assert [tree[leaf].info["em"] for leaf in tree.leaves] == [1.0, 1.0]
    assert policy.decode_action(tree[1].action).startswith('I look\n<tool_call>\n{"name": "search"')
    assert [message["role"] for message in server.asked[-1].messages] == ["user", "assistant", "tool"]
    assert all(asked.body["tools"] for asked in server.asked)


def test_a_path_without_room_ends_and_nothing_more_is_asked(serve):
    server = serve(lambda asked: said("<search>Tower A", tokens=40))
    _, _, tree = grown(server, EntropyGuided(chains=1, rounds=0), LimitConfig(retries=0, max_response_tokens=30))
    assert (server.count, len(tree.leaves)) == (1, 1)
    assert tree[tree.leaves[0]].info["em"] == 0.0


def test_what_ends_a_tree_is_said(serve):
    shape = EntropyGuided(chains=1, rounds=0)
    with pytest.raises(EndpointLost, match="boom"):
        grown(serve(lambda asked: failure(500, "boom")), shape)
    with pytest.raises(EndpointError, match="gives no log-probabilities"):
        grown(serve(lambda asked: Say("<answer>x")), shape)
