"""The plan of an evaluation, printed by ``--dry-run`` without a request to the model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

from at2po_agent.judge.config import JudgeConfig
from at2po_agent.judge.endpoint.conversation import converse
from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.judge.tree.search import most_chains, sampled
from at2po_agent.terminal import counted
from at2po_env.state import plain
from at2po_env.tasks import TaskEnv

_TEMPLATE = 64  # tokens that a chat template may add to a message, generously


def print_plan(
    config: JudgeConfig, env: TaskEnv[Any], ids: Sequence[str], console: Console, earlier: Iterable[EpisodeRecord] = ()
) -> None:
    """Print what would be evaluated, the first prompt, and how many tokens it can cost at most.

    Args:
        config: of the evaluation.
        env: its environment.
        ids: its questions.
        console: where it is printed.
        earlier: what is recorded of it; questions of which nothing is missing cost nothing.
    """
    described, model, word = env.manifest(), config.model, env.task_word
    whole, ids = len(ids), _left(config, ids, earlier)
    if not ids:
        console.print(f"nothing is left to do: {counted(whole, word)} recorded", markup=False, highlight=False)
        return
    where = f"at {model.base_url}" if model.base_url else "in this process"
    most, split = token_bound(config, env, ids), described["dataset"]["split"]
    lines = {
        "environment": f"{config.envs[0]}: {split}, {whole:,} of {counted(len(env.tasks), word)}",
        "recorded": f"{counted(whole - len(ids), word)}, not asked again",
        "episodes": _episodes(config, len(ids), word),
        "model": f"{model.name} {where}",
        "sampling": f"temperature {config.temperature:g}, seed {config.seed}",
        **_talk_and_search(described, env.limits),
        "limits": f"{_limits(env.limits)}{config.limits.max_turn_tokens} tokens a turn, "
        f"{config.limits.max_response_tokens} in all",
        "at most": "not known: the environment names no bounds (TaskEnv.bounds)",
    }
    if most is not None:
        lines["at most"] = f"{most[0]:,} prompt and {most[1]:,} completion tokens (one per byte, every turn used)"
    if whole == len(ids):
        del lines["recorded"]
    if most is not None and model.price_prompt is not None and model.price_completion is not None:
        cost = (most[0] * model.price_prompt + most[1] * model.price_completion) / 1e6
        lines["cost"] = f"at most {cost:,.2f}"
    for name, text in lines.items():
        console.print(f"{name:>12}  {text}", markup=False, highlight=False, soft_wrap=True)
    console.print("first prompt:", markup=False, highlight=False)
    console.print(_first_prompt(config, env, ids[0]), markup=False, highlight=False, soft_wrap=True)


def _talk_and_search(described: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, str]:
    """Lines of what an environment has of a dialect and a search."""
    lines = {}
    if dialect := described.get("dialect"):
        lines["dialect"] = f"{dialect['name']} ({dialect['digest'][:12]})"
    if search := described.get("search"):
        found = f"{search['passages']:,} passages ({search['digest'][:12]})"
        lines["search"] = f"{search['backend']}, {found}, top {limits.get('k')}"
    return lines


def _limits(limits: Mapping[str, Any]) -> str:
    named = (("max_searches", "searches"), ("max_turns", "turns"))
    counts = " and ".join(f"{limits[name]} {noun}" for name, noun in named if limits.get(name))
    return f"{counts} an episode, " if counts else ""


def _left(config: JudgeConfig, ids: Sequence[str], earlier: Iterable[EpisodeRecord]) -> list[str]:
    """Questions of which an episode is missing."""
    if config.tree:
        grown = sampled(earlier, config.expansion)
        return [id_ for id_ in ids if id_ not in grown]
    scored = Counter(record.question_id for record in earlier if record.error is None)
    return [id_ for id_ in ids if scored[id_] < config.samples]


def _episodes(config: JudgeConfig, tasks: int, word: str) -> str:
    if not config.tree:
        return f"{tasks * config.samples:,} ({config.samples} a {word}, {config.concurrency} at a time)"
    tree = config.expansion
    return (
        f"{tasks * tree.leaves:,} in trees ({tree.chains} chains and {tree.rounds} rounds of {tree.per_round} "
        f"branches a question) and as many tokens in further chains, at most {most_chains(tree)} chains a question"
    )


def _first_prompt(config: JudgeConfig, env: TaskEnv[Any], question_id: str) -> str:
    own = env.clone()
    own.reset(options={"task_id": question_id})
    if config.model.base_url is None:
        return plain(own.observation())
    conversation = converse(own)
    asked: dict[str, Any] = {"messages": conversation.messages, "stop": conversation.stop}
    if conversation.tools:
        asked["tools"] = conversation.tools
    return json.dumps(asked, indent=1, ensure_ascii=False)


def token_bound(config: JudgeConfig, env: TaskEnv[Any], ids: Sequence[str]) -> tuple[int, int] | None:
    """Prompt and completion tokens that the evaluation cannot exceed; None where the environment names no bounds.

    No tokenizer makes more than one token of a byte. Every request sends the conversation again: the prompt, and
    what was generated and observed before, which ``max_response_tokens`` and one more observation bound.
    """
    bounds, limits = env.bounds, config.limits
    if bounds is None:
        return None
    own, prompts = env.clone(), 0
    for id_ in ids:
        own.begin(id_)
        prompts += _size(plain(own.observation())) + _TEMPLATE
    if env.chat is not None and env.chat.tools:
        prompts += len(ids) * _size(json.dumps(env.chat.tools))
    observed = bounds.observation + 2 * _TEMPLATE
    turn = limits.max_turn_tokens + observed
    before = [min(at * turn, limits.max_response_tokens + observed) for at in range(bounds.turns)]
    generated = min(bounds.turns * limits.max_turn_tokens, limits.max_response_tokens)
    prompt = bounds.turns * prompts + len(ids) * sum(before)
    tree = config.expansion
    samples = tree.leaves - tree.chains + most_chains(tree) if config.tree else config.samples
    return samples * prompt, samples * len(ids) * generated


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
