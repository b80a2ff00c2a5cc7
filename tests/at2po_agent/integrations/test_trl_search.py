"""Search questions in TRL: the same prompt, tool and reward as our environment's, and two real steps of GRPOTrainer."""

from __future__ import annotations

import itertools
import json
import pickle
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from at2po_agent.environments import make_env
from at2po_agent.integrations.trl_search import EPISODE_OVER, Spec
from at2po_agent.settings import ConfigError
from at2po_env.chat import messages
from at2po_env.dialects import NATIVE
from at2po_env.errors import ToolUnavailable
from at2po_env.state import plain
from search_backend.base import SearchUnavailable
from tests.helpers.env_doubles import FakeSearch
from tests.helpers.servers import answering
from tests.helpers.tool_calling import fitted_policy, save, tool_tokenizer
from tests.helpers.trl_steps import TWO_STEPS


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
    gold = make_env("AT2PO-MicroWiki-v0", "train", {}).questions[0].answers[0]
    completion = [
        call("anything"),
        {"role": "tool", "name": "search", "content": "what was found"},
        {"role": "assistant", "content": said.format(gold)},
    ]
    (reward_of,) = spec.reward_funcs
    assert reward_of(completions=[completion], task_id=spec.train_task_ids, prompts=[[]]) == [reward]


def test_a_call_that_was_not_run_any_more_is_no_answer():
    spec = Spec(tasks=1, max_searches=1)
    (reward_of,) = spec.reward_funcs
    answer = {"role": "assistant", "content": "<answer>x</answer>"}
    over = [{"role": "assistant", "content": "", "tool_calls": call("a")["tool_calls"] * 4}, answer]
    completions = [[call("more")], [], over]
    assert reward_of(completions=completions, task_id=spec.train_task_ids * 3) == [-1.0, -1.0, -1.0]


@pytest.mark.parametrize("written", [str, json.dumps])
def test_an_episode_whose_search_failed_is_not_scored(written):
    backend = FakeSearch()
    spec = Spec(tasks=1, search=backend)
    environment = spec.environment_factory()
    environment.reset(task_id=spec.train_task_ids[0])
    backend.failures = [SearchUnavailable("it's down")]
    with pytest.raises(ToolUnavailable, match="it's down") as failed:
        environment.search("Tower")
    # as TRL goes on: the model reads the error, and may answer all the same
    completion = [
        call("Tower"),
        {"role": "tool", "name": "search", "content": written({"error": str(failed.value)})},
        {"role": "assistant", "content": "<answer>x</answer>"},
    ]
    (reward_of,) = spec.reward_funcs
    with pytest.raises(ToolUnavailable, match="cannot be scored"):
        reward_of(completions=[completion], task_id=spec.train_task_ids)
    completion[1]["content"] = written({"error": "search() got an unexpected keyword argument 'q'"})
    assert reward_of(completions=[completion], task_id=spec.train_task_ids) == [0.0]


def test_environments_are_of_their_own_and_the_factory_can_be_pickled():
    spec = Spec(tasks=2)
    first, second = spec.environment_factory(), pickle.loads(pickle.dumps(spec.environment_factory))()
    first.reset(task_id=spec.train_task_ids[0])
    second.reset(task_id=spec.train_task_ids[1])
    assert first.search("x") and second.search("x") and first is not second
    (reward_of,) = pickle.loads(pickle.dumps(spec.reward_funcs))
    assert reward_of(completions=[[], []], task_id=spec.train_task_ids) == [-1.0, -1.0]
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
    spec = Spec(tasks=1, k=1)
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

    assert get_json_schema(Spec(tasks=1, k=1).environment_factory().search) == NATIVE.tools[0]


def first_prompt(tokenizer, spec):
    """The ids of our own prompt with our own tool, in the model's chat template."""
    env = make_env("AT2PO-MicroWiki-v0", "train", {"dialect": "native", "k": 1})
    env.reset(options={"task_id": spec.train_task_ids[0]})
    user = {"role": "user", "content": plain(env.observation())}
    return tokenizer.apply_chat_template(
        [user], tools=list(NATIVE.tools), add_generation_prompt=True, tokenize=True, return_dict=False
    )


@pytest.fixture
def completions_server(policy):
    """vLLM's completions, as far as TRL's worker reads them: a search first, then a right or a wrong answer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(policy)
    gold = make_env("AT2PO-MicroWiki-v0", "train", {}).questions[0].answers[0]
    asked, answers = [], itertools.cycle([gold, "no"])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
            asked.append(prompt)
            search = '<tool_call>\n{"name": "search", "arguments": {"query": "Brum"}}\n</tool_call>'
            found = "<tool_response>" in tokenizer.decode(prompt)
            text = f"<answer>{next(answers)}</answer>" if found else search
            ids = tokenizer.encode(f"{text}<|im_end|>", add_special_tokens=False)
            choice = {"token_ids": ids, "logprobs": {"token_logprobs": [-1.0] * len(ids)}}
            body = json.dumps({"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}", asked, tokenizer


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
def test_the_asynchronous_trainer_s_own_worker_plays_it(completions_server):
    from accelerate.state import PartialState
    from trl.experimental.async_grpo.async_rollout_worker import _AsyncRolloutLoop

    PartialState()
    url, asked, tokenizer = completions_server
    spec, samples = Spec(tasks=1, k=1), queue.Queue()
    # The process that TRL spawns runs this loop; here it is a thread, so that no vLLM has to be installed.
    loop = _AsyncRolloutLoop(
        model_name="m",
        dataset=spec.train_dataset,
        reward_funcs=spec.reward_funcs,
        environment_factory=spec.environment_factory,
        processing_class=tokenizer,
        eos_token_ids=[tokenizer.eos_token_id],
        rollout_buffer=samples,
        model_version_value=SimpleNamespace(value=0),
        heartbeat_value=SimpleNamespace(value=0.0),
        failed_event=threading.Event(),
        exception_info_queue=queue.Queue(),
        metrics_queue=queue.Queue(),
        num_generations=2,
        max_inflight_tasks=2,
        vllm_server_url=url,
        max_tokens=64,
    )
    thread = threading.Thread(target=loop.run)
    thread.start()
    pair = [samples.get(timeout=60) for _ in range(2)]
    loop._loop.call_soon_threadsafe(loop._stop_event.set)
    thread.join()
    assert asked[0] == first_prompt(tokenizer, spec)
    assert sorted(sample.metrics["rewards/episode_reward"] for sample in pair) == [0.0, 1.0]
    assert sorted(sample.advantage for sample in pair) == pytest.approx([-1, 1], abs=1e-5)
    assert pair[0].metrics["tools/call_frequency"] == 1 and pair[0].metrics["tools/failure_frequency"] == 0


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
def test_two_steps_of_grpo_trainer(policy, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    spec, tokenizer, prompts = Spec(tasks=1, k=1), AutoTokenizer.from_pretrained(policy), []
    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(policy),
        args=GRPOConfig(
            **TWO_STEPS,
            output_dir=str(tmp_path),
            per_device_train_batch_size=8,
            num_generations=8,
            max_completion_length=256,
            max_tool_calling_iterations=3,
            temperature=0.7,
        ),
        train_dataset=spec.train_dataset,
        environment_factory=spec.environment_factory,
        reward_funcs=spec.reward_funcs,
        processing_class=tokenizer,
    )
    trainer.model.register_forward_pre_hook(
        lambda module, args, inputs: prompts.append(inputs["input_ids"][0].tolist()), with_kwargs=True
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
    assert prompts[0] == first_prompt(tokenizer, spec)
