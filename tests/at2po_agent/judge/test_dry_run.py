import io
import json

from rich.console import Console

from at2po_agent.judge.config import JudgeConfig, LimitConfig, ModelConfig
from at2po_agent.judge.dry_run import print_plan, token_bound
from at2po_agent.judge.endpoint.conversation import converse
from at2po_env.dataset import Dataset
from at2po_env.rules import Rules
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import Question
from search_backend.base import Passage
from tests.helpers.env_doubles import FakeSearch, make_env
from tests.helpers.evaluations import answered

MODEL = ModelConfig("m", "http://h/v1", price_prompt=1.0, price_completion=10.0)


def printed(config: JudgeConfig, env: SearchQAEnv, ids: list[str]) -> str:
    out = io.StringIO()
    print_plan(config, env, ids, Console(file=out, width=80))
    return out.getvalue()


def test_the_plan_shows_the_first_request_as_it_would_be_sent():
    env = make_env(dialect="native")
    text = printed(JudgeConfig(envs=("X-v0",), model=MODEL, split="demo", samples=3), env, ["q2", "q1"])
    request = json.loads(text.partition("first prompt:\n")[2])
    own = env.clone()
    own.reset(options={"question_id": "q2"})
    assert request["messages"] == converse(own).messages
    assert request["tools"] == json.loads(json.dumps(env.chat.tools))
    assert "2 of 3 questions" in text and "6 (3 a question" in text and "at most" in text and "cost" in text


def test_a_plan_of_what_is_left_leaves_out_what_is_recorded():
    env = make_env(dialect="chat")
    config = JudgeConfig(envs=("X-v0",), model=MODEL, split="demo", samples=2)
    out = io.StringIO()
    earlier = [answered("q1"), answered("q1", sample=1), answered("q2")]
    print_plan(config, env, ["q1", "q2"], Console(file=out, width=80), earlier)
    assert "1 question, not asked again" in out.getvalue() and " 2 (2 a question" in out.getvalue()
    out = io.StringIO()
    print_plan(config, env, ["q1"], Console(file=out, width=80), earlier)
    assert out.getvalue() == "nothing is left to do: 1 question recorded\n"


def test_no_episode_can_cost_more_than_the_bound():
    """The most expensive episode there can be, counted in bytes: every turn is full, every result is full."""
    text = "é" * 500
    env = SearchQAEnv(
        Dataset.of([Question("q", "Wo?", ("x",))]),
        FakeSearch([Passage(str(i), "t", f"w {text}") for i in range(5)]),
        Rules.of(dialect="chat", max_observation_chars=900, max_searches=4),
    )
    config = JudgeConfig(model=MODEL, samples=2, limits=LimitConfig(max_turn_tokens=60, max_response_tokens=4000))
    prompt_bound, completion_bound = token_bound(config, env, ["q"])
    env.reset(options={"question_id": "q"})
    talk = converse(env)
    prompt = completion = 0
    over = False
    turn = "<search>w</search>" + " " * 42
    while not over:
        prompt += sum(len(message["content"].encode()) + 10 for message in talk.messages)
        completion += len(turn)
        _, _, terminated, truncated, _ = env.step(turn)
        over = terminated or truncated
        talk.messages.append({"role": "assistant", "content": turn})
        talk.observe(env.observation())
    assert prompt <= prompt_bound / 2 and completion <= completion_bound / 2
    assert completion_bound == 2 * min(6 * 60, 4000)
