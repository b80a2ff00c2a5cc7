"""Black-box tree evaluation: the tree of training, grown with any model, beside chains that cost as much.

For every question ``grow`` grows the entropy-guided tree unchanged: over ``TreePolicy`` where the model is at an
endpoint, and over its own engine where it is in this process (``tree.local``). Then chains are added to those that the
tree began with until they have taken as many generated tokens as the tree. Every path to an end is one record of
``episodes.jsonl``; its ``sample`` is its number: the tree's chains first, then its branches in the order in which they
were proposed, then the further chains. Turns that a record shares with an earlier one cost nothing there.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol

from at2po_agent.judge.config import JudgeConfig
from at2po_agent.judge.endpoint.client import Call, ChatEndpoint
from at2po_agent.judge.endpoint.conversation import converse
from at2po_agent.judge.endpoint.refusals import EndpointError, Filtered, Refusal
from at2po_agent.judge.episodes.play import Metered, Played, record_of
from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.judge.tree.policy import LOGPROBS, EndpointLost, NoLogprob, SampledTurn, TreePolicy, no_logprobs
from at2po_agent.judge.tree.voting import Candidate, Sampled
from at2po_agent.method.expansion import Chains, EntropyGuided, Expansion
from at2po_agent.method.tree import TurnTree
from at2po_agent.policy.base import PolicyUnavailable, Sampling
from at2po_agent.rollouts.grow import Actor, grow
from at2po_agent.rollouts.outages import Outages
from at2po_agent.settings import ConfigError
from at2po_agent.tasks import run_pool
from at2po_env.state import plain
from at2po_env.tasks import TaskEnv


def check_tree(config: JudgeConfig) -> None:
    """Raise a ConfigError where a tree is asked for and cannot be grown as configured."""
    if not config.tree:
        return
    if config.temperature == 0:
        raise ConfigError("--tree samples a question's turns several times: give it a temperature above 0 (-T 1)")
    if config.samples != 1:
        raise ConfigError("--tree sets the number of samples itself (expansion.chains): leave -r out")


def check_votes(env: TaskEnv[Any]) -> None:
    """Raise a ConfigError where paths cannot vote: their answers are compared, and an answer is right or wrong."""
    if not env.metrics[0].share or not env.task(env.tasks[0]).answers:
        raise ConfigError(
            f"--tree lets paths vote on their answers: it needs {env.task_word}s with reference answers (Task.answers) "
            "and a first metric that is 0 or 1; leave --tree out"
        )


async def probe(env: TaskEnv[Any], endpoint: ChatEndpoint, question_id: str) -> None:
    """Ask for one token, to see whether the endpoint gives log-probabilities.

    Raises:
        EndpointError: it does not.
    """
    own = env.clone()
    own.reset(options={"task_id": question_id})
    start = converse(own)
    call = Call(tuple(start.messages), max_tokens=1, temperature=1.0, tools=start.tools, top_logprobs=LOGPROBS)
    if (await endpoint.complete(call)).logprobs is None:
        raise EndpointError(no_logprobs(endpoint))


async def search_trees(
    env: TaskEnv[Any],
    endpoint: ChatEndpoint,
    config: JudgeConfig,
    question_ids: Sequence[str],
    on_records: Callable[[Sequence[EpisodeRecord]], None],
    outages: Outages,
) -> None:
    """Grow a tree and its chains for every question; each is recorded whole when it ends, or as one error.

    Raises:
        EndpointError: no request can work, or the endpoint gives no log-probabilities.
        SearchError: no search can work.
    """
    # A filter, or an answer that cannot be used, says nothing of those to come: the first that can be shows whether the
    # endpoint gives log-probabilities.
    with suppress(Filtered, PolicyUnavailable):
        await probe(env, endpoint, question_ids[0])

    async def work(question_id: str) -> None:
        own = env.clone()
        own.reset(options={"task_id": question_id})
        on_records(await search_tree(own, endpoint, config, outages))

    await run_pool(question_ids, work, max(1, config.concurrency // config.expansion.chains))


async def search_tree(
    env: TaskEnv[Any], endpoint: ChatEndpoint, config: JudgeConfig, outages: Outages
) -> list[EpisodeRecord]:
    """All paths of the question that ``env`` was reset to, or one record that says why there are none."""
    seconds = config.limits.episode_seconds * config.expansion.leaves

    async def grown(expansion: Expansion, first: int) -> list[EpisodeRecord]:
        policy = TreePolicy(env, endpoint, config, first)
        actor = Actor(policy, policy, Sampling(config.temperature), config.limits.rollout(), outages=outages)
        tree = await grow(env, actor, expansion, key=(config.seed,), question_id=env.info()["task_id"])
        return records_of(env, tree, lambda node: _sampled_turn(policy.turns[tree[node].action[-1]]))

    try:
        async with asyncio.timeout(seconds):
            return await all_paths(config.expansion, grown)
    except TimeoutError:
        error = f"the tree did not end within {seconds:g} s"
    except (EndpointLost, NoLogprob, Refusal, PathLost) as reason:
        error = str(reason)
    return [no_tree(env, error)]


def _sampled_turn(turn: SampledTurn) -> GrownTurn:
    reply = turn.reply
    cost = Metered(reply.prompt_tokens, reply.completion_tokens, reply.seconds, reply.finish, reply.reasoning)
    return GrownTurn(turn.path, cost, turn.conversation.messages)


class Grow(Protocol):
    """How a model grows paths of one question."""

    async def __call__(self, expansion: Expansion, first: int) -> list[EpisodeRecord]:
        """Grow a tree, whose first path has the number ``first``, and return its paths in the order of their numbers.

        Raises:
            PathLost: infrastructure ended one of them.
        """
        ...


async def all_paths(tree: EntropyGuided, grown: Grow) -> list[EpisodeRecord]:
    """The paths of a question's tree, and then chains until all chains have taken as many tokens as the tree.

    Raises:
        PathLost: infrastructure ended a path.
    """
    records = await grown(tree, 0)
    budget = sum(map(_generated, records))
    chains = records[: tree.chains]
    while n := _further(chains, budget, most_chains(tree)):
        more = await grown(Chains(n), len(records))
        records += more
        chains += more
    return records


def no_tree(env: TaskEnv[Any], error: str) -> EpisodeRecord:
    """The record of a question whose tree is not whole."""
    return record_of(env, env.snapshot(), Played(0, plain(env.observation()), (), error=error))


def _further(chains: Sequence[EpisodeRecord], budget: int, most: int) -> int:
    """Chains to sample until all have taken ``budget`` tokens, if the next ones take what the others did."""
    spent = sum(map(_generated, chains))
    if spent >= budget:
        return 0
    return min(math.ceil((budget - spent) * len(chains) / max(spent, 1)), most - len(chains))


class PathLost(Exception):
    """Infrastructure ended a path for good, so the tree is not the one that was to be grown."""


@dataclass(frozen=True)
class GrownTurn:
    """A turn of a tree, beside what the tree stores of it."""

    path: int  # which path of the question sampled it
    cost: Metered
    messages: Sequence[Mapping[str, Any]] = ()  # the conversation with this turn, where there was one


def records_of(env: TaskEnv[Any], tree: TurnTree, turn: Callable[[int], GrownTurn]) -> list[EpisodeRecord]:
    """A record per path of a grown tree, in the order of their numbers.

    Args:
        env: at the tree's root.
        tree: with snapshots.
        turn: of a node.

    Raises:
        PathLost: a path has no end.
    """
    if len(tree.leaves) < tree.started:
        raise PathLost(f"the search failed {tree.started - len(tree.leaves)} of {tree.started} paths for good")
    records, prompt, paid = [], plain(env.observation()), set[int]()
    for leaf in sorted(tree.leaves, key=lambda leaf: turn(leaf).path):
        path, end = tree.path(leaf), turn(leaf)
        # What an earlier path has paid for costs nothing again.
        costs = [_free(turn(node).cost) if node in paid else turn(node).cost for node in path]
        paid.update(path)
        played = Played(end.path, prompt, costs, end.messages, sum(cost.seconds for cost in costs))
        record = record_of(env, tree[leaf].snapshot, played)
        records.append(dataclasses.replace(record, logprob=fmean(logp for node in path for logp in tree[node].logp)))
    return records


def _free(cost: Metered) -> Metered:
    return dataclasses.replace(cost, prompt_tokens=0, completion_tokens=0, seconds=0.0)


def most_chains(tree: EntropyGuided) -> int:
    """Chains that are sampled at most, to spend what a tree took: twice its leaves."""
    return 2 * tree.leaves


def sampled(records: Iterable[EpisodeRecord], shape: EntropyGuided) -> dict[str, Sampled]:
    """The samples of every question whose tree and chains are complete."""
    by_question: dict[str, dict[int, Candidate]] = {}
    for record in records:
        paths = by_question.setdefault(record.question_id, {})
        # A later record of a path replaces an earlier one.
        paths.pop(record.sample, None)
        if candidate := _candidate(record):
            paths[record.sample] = candidate
    found = {}
    for question_id, paths in by_question.items():
        numbers = sorted(paths)
        if len(numbers) < shape.leaves or numbers[shape.leaves - 1] != shape.leaves - 1:
            continue
        candidates = [paths[number] for number in numbers]
        leaves, further = candidates[: shape.leaves], candidates[shape.leaves :]
        one = Sampled(chains=(*leaves[: shape.chains], *further), leaves=tuple(leaves))
        if sum(chain.tokens for chain in one.chains) >= one.budget or len(one.chains) >= most_chains(shape):
            found[question_id] = one
    return found


def _candidate(record: EpisodeRecord) -> Candidate | None:
    """The path of a record; None where infrastructure ended it, or something that ``--tree`` counts is not known."""
    em, logprob, tokens = record.score, record.logprob, record.completion_tokens
    if record.error is not None or em is None or logprob is None or tokens is None:
        return None
    return Candidate(record.prediction, em, logprob, tokens)


def _generated(record: EpisodeRecord) -> int:
    """Tokens of a path: each has a log-probability, so that they are counted where the endpoint does not count."""
    assert record.completion_tokens is not None
    return record.completion_tokens
