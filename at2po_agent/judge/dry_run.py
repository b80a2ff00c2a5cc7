"""What an evaluation would do: printed by ``--dry-run``, without asking anything of the model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console

from at2po_agent.judge.config import JudgeConfig
from at2po_agent.judge.endpoint.conversation import converse
from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.judge.tree.search import most_chains, sampled
from at2po_agent.terminal import counted
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import plain

_BYTES = 4  # of a character, at most
_TEMPLATE = 64  # tokens that a chat template may add to a message, generously


def print_plan(
    config: JudgeConfig, env: SearchQAEnv, ids: Sequence[str], console: Console, earlier: Iterable[EpisodeRecord] = ()
) -> None:
    """Print what would be evaluated, the first prompt, and how many tokens it can cost at most.

    Args:
        config: of the evaluation.
        env: its environment.
        ids: its questions.
        console: where it is printed.
        earlier: what is recorded of it; questions of which nothing is missing cost nothing.
    """
    rules, data, model = env.rules, env.dataset, config.model
    whole, ids = len(ids), _left(config, ids, earlier)
    if not ids:
        console.print(f"nothing is left to do: {counted(whole, 'question')} recorded", markup=False, highlight=False)
        return
    where = f"at {model.base_url}" if model.base_url else "in this process"
    prompt, completion = token_bound(config, env, ids)
    search = env.search.manifest
    lines = {
        "environment": f"{config.envs[0]}: {data.split}, {whole:,} of {len(data.questions):,} questions",
        "recorded": f"{counted(whole - len(ids), 'question')}, not asked again",
        "episodes": _episodes(config, len(ids)),
        "model": f"{model.name} {where}",
        "sampling": f"temperature {config.temperature:g}, seed {config.seed}",
        "dialect": f"{env.dialect.name} ({env.dialect.digest[:12]})",
        "search": f"{search.backend}, {search.passages:,} passages ({search.digest[:12]}), top {rules.k}",
        "limits": f"{rules.max_searches} searches and {rules.turn_limit} turns an episode, "
        f"{config.limits.max_turn_tokens} tokens a turn, {config.limits.max_response_tokens} in all",
        "at most": f"{prompt:,} prompt and {completion:,} completion tokens (one per byte, every turn used)",
    }
    if whole == len(ids):
        del lines["recorded"]
    if model.price_prompt is not None and model.price_completion is not None:
        cost = (prompt * model.price_prompt + completion * model.price_completion) / 1e6
        lines["cost"] = f"at most {cost:,.2f}"
    for name, text in lines.items():
        console.print(f"{name:>12}  {text}", markup=False, highlight=False, soft_wrap=True)
    console.print("first prompt:", markup=False, highlight=False)
    console.print(_first_prompt(config, env, ids[0]), markup=False, highlight=False, soft_wrap=True)


def _left(config: JudgeConfig, ids: Sequence[str], earlier: Iterable[EpisodeRecord]) -> list[str]:
    """Questions of which an episode is missing."""
    if config.tree:
        grown = sampled(earlier, config.expansion)
        return [id_ for id_ in ids if id_ not in grown]
    scored = Counter(record.question_id for record in earlier if record.error is None)
    return [id_ for id_ in ids if scored[id_] < config.samples]


def _episodes(config: JudgeConfig, questions: int) -> str:
    if not config.tree:
        return f"{questions * config.samples:,} ({config.samples} a question, {config.concurrency} at a time)"
    tree = config.expansion
    return (
        f"{questions * tree.leaves:,} in trees ({tree.chains} chains and {tree.rounds} rounds of {tree.per_round} "
        f"branches a question) and as many tokens in further chains, at most {most_chains(tree)} chains a question"
    )


def _first_prompt(config: JudgeConfig, env: SearchQAEnv, question_id: str) -> str:
    own = env.clone()
    own.reset(options={"question_id": question_id})
    if config.model.base_url is None:
        return plain(own.observation())
    conversation = converse(own)
    asked: dict[str, Any] = {"messages": conversation.messages, "stop": conversation.stop}
    if conversation.tools:
        asked["tools"] = conversation.tools
    return json.dumps(asked, indent=1, ensure_ascii=False)


def token_bound(config: JudgeConfig, env: SearchQAEnv, ids: Sequence[str]) -> tuple[int, int]:
    """Prompt and completion tokens that the evaluation cannot exceed.

    No tokenizer makes more than one token of a byte. Every request sends the conversation again: the question, and
    what was generated and observed before, which ``max_response_tokens`` and one more observation bound.
    """
    rules, limits = env.rules, config.limits
    questions = {question.id: question for question in env.questions}
    prompts = sum(_size(plain(env.dialect.prompt(questions[id_].question))) for id_ in ids)
    scaffold = plain(env.dialect.result((), 1))
    observed = _BYTES * rules.max_observation_chars + rules.k * (
        _size(env.dialect.hit_open + env.dialect.title_close + env.dialect.hit_close) + 2
    )
    observed += _size(scaffold) + 2 * _TEMPLATE
    turn = limits.max_turn_tokens + observed
    before = [min(at * turn, limits.max_response_tokens + observed) for at in range(rules.turn_limit)]
    generated = min(rules.turn_limit * limits.max_turn_tokens, limits.max_response_tokens)
    prompt = rules.turn_limit * (prompts + _TEMPLATE * len(ids)) + len(ids) * sum(before)
    tree = config.expansion
    samples = tree.leaves - tree.chains + most_chains(tree) if config.tree else config.samples
    return samples * prompt, samples * len(ids) * generated


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
