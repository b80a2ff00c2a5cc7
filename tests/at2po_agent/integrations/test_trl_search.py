"""Search questions in TRL: the same prompt, tool and reward as our environment's, and two real steps of GRPOTrainer."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from at2po_agent.environments import make_env
from at2po_agent.integrations.trl_search import EPISODE_OVER, Spec, episode_reward
from at2po_agent.settings import ConfigError
from at2po_env.chat import messages
from at2po_env.dialects import NATIVE
from at2po_env.state import plain
from tests.helpers.tool_calling import fitted_policy, save, tool_tokenizer


def call(query: str) -> dict:
    function = {"name": "search", "arguments": {"query": query}}  # as TRL's parser gives it
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}


def test_an_episode_is_that_of_the_native_dialect():
    spec = Spec(tasks=3, k=1, max_searches=1)
    environment = spec.environment_factory()
    env = make_env("AT2PO-MicroWiki-v0", "train", {"dialect": "native", "k": 1, "max_searches": 1})
    question = env.questions[0]
    env.reset(options={"task_id": question.id})
    assert environment.reset(prompt=[], task_id=question.id) == plain(env.observation())
    env.step('<tool_call>\n{"name": "search", "arguments": {"query": "who?"}}\n</tool_call>')
    assert environment.search("who?") == plain(env.observation()) == messages(env.dialect, env.state)[-1]["content"]
    assert environment.search("again?").strip() == NATIVE.search_limit
    assert environment.search("and again?") == EPISODE_OVER


@pytest.mark.parametrize(
    ("said", "reward"),
    [
        ("<answer>{}</answer>", 1.0),
        ("<answer>something else</answer>", 0.0),
        ("no answer at all", -1.0),
    ],
)
def test_the_last_message_is_the_last_turn(said, reward):
    spec = Spec(tasks=1)
    environment = spec.environment_factory()
    environment.reset(task_id=spec.train_task_ids[0])
    gold = make_env("AT2PO-MicroWiki-v0", "train", {}).questions[0].answers[0]
    found = environment.search("anything")
    completion = [
        call("anything"),
        {"role": "tool", "name": "search", "content": found},
        {"role": "assistant", "content": said.format(gold)},
    ]
    assert episode_reward([completion], [environment]) == [reward]
    assert episode_reward([completion], [environment]) == [reward]  # a second reward function may ask again


def test_a_call_that_was_not_run_any_more_is_no_answer():
    spec = Spec(tasks=1)
    environment = spec.environment_factory()
    environment.reset(task_id=spec.train_task_ids[0])
    assert episode_reward([[call("more")]], [environment]) == [-1.0]
    environment.reset(task_id=spec.train_task_ids[0])
    assert episode_reward([[]], [environment]) == [-1.0]


def test_environments_are_of_their_own_and_the_factory_can_be_pickled():
    spec = Spec(tasks=2)
    first, second = spec.environment_factory(), pickle.loads(pickle.dumps(spec.environment_factory))()
    first.reset(task_id=spec.train_task_ids[0])
    second.reset(task_id=spec.train_task_ids[1])
    assert json.dumps(first.search("x")) and episode_reward([[], []], [first, second]) == [-1.0, -1.0]
    assert Spec(tasks=spec.train_task_ids[1:]).train_task_ids == spec.train_task_ids[1:]


def test_what_has_no_search_is_refused():
    with pytest.raises(ConfigError, match="no search to call"):
        Spec("AT2PO-MicroSQL-v0")
    with pytest.raises(ConfigError, match="it is native"):
        Spec(dialect="tags")


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A tiny policy that answers at once, or searches first; both rightly in half of the cases."""
    from trl import chat_template_utils

    template = Path(chat_template_utils.__file__).parent / "chat_templates" / "qwen3.jinja"
    spec = Spec(tasks=1)
    environment = spec.environment_factory()
    user = {"role": "user", "content": environment.reset(task_id=spec.train_task_ids[0])}
    found = {"role": "tool", "name": "search", "content": environment.search("Brum")}
    gold = make_env("AT2PO-MicroWiki-v0", "train", {}).questions[0].answers[0]
    schema = json.dumps(NATIVE.tools[0])
    tokenizer = tool_tokenizer(template.read_text(), f"{schema} {user['content']} {found['content']} {gold}")

    def ids(said, generation):
        return tokenizer.apply_chat_template(
            said, tools=[environment.search], add_generation_prompt=generation, tokenize=True, return_dict=False
        )

    def said(text):
        return tokenizer.encode(f"{text}<|im_end|>", add_special_tokens=False)

    answers = [f"<answer>{answer}</answer>" for answer in (gold, "no")]
    search = '<tool_call>\n{"name": "search", "arguments": {"query": "Brum"}}\n</tool_call>'
    first, second = ids([user], True), ids([user, call("Brum"), found], True)
    episodes = [*((first, said(text)) for text in [*answers, search, search]), *((second, said(a)) for a in answers)]
    return save(tmp_path_factory.mktemp("policy"), fitted_policy(tokenizer, episodes), tokenizer)


@pytest.mark.integration
def test_the_tool_that_trl_shows_is_the_dialect_s():
    from transformers.utils import get_json_schema

    schema = get_json_schema(Spec(tasks=1).environment_factory().search)
    assert schema["function"].pop("return") == {"type": "string"}  # which templates do not show
    assert schema == NATIVE.tools[0]


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
def test_two_steps_of_grpo_trainer(policy, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    prompts = []

    def reward(**columns):
        prompts.extend(columns["prompts"])

        return episode_reward(**columns)

    spec = Spec(tasks=1)
    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(policy),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            max_steps=2,
            per_device_train_batch_size=8,
            num_generations=8,
            max_completion_length=256,
            max_tool_calling_iterations=3,
            learning_rate=1e-3,
            temperature=0.7,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
        ),
        train_dataset=spec.train_dataset,
        environment_factory=spec.environment_factory,
        reward_funcs=reward,
        processing_class=AutoTokenizer.from_pretrained(policy),
    )
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(logs) == 2
    assert any(entry["reward_std"] > 0 for entry in logs)
    assert any(entry["tools/call_frequency"] > 0 for entry in logs)
    assert all(entry["tools/failure_frequency"] == 0 for entry in logs)
    assert any(not torch.equal(before[name], weight) for name, weight in trainer.model.named_parameters())
    # what reset returns is all of the user's message: the row's own prompt is empty
    expected = make_env("AT2PO-MicroWiki-v0", "train", {"dialect": "native"})
    expected.reset(options={"task_id": spec.train_task_ids[0]})
    assert {prompt[-1]["content"] for prompt in prompts} == {plain(expected.observation())}
