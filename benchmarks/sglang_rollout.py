"""Rollouts on a real SGLang server: without a barrier beside turn by turn, trees beside chains, and the prefix cache.

    python -m benchmarks.sglang_rollout URL [--questions 8] [--repeats 3]

URL is a server of the MicroWiki policy (``python -m sglang.launch_server --model-path at2po_agent/data/microwiki …``).

*Schedules.* The official implementation takes one turn on every open path of the whole batch, waits for the longest
of them, searches for all, and goes on. That is ``Actor(deterministic=True)`` here; ``deterministic=False`` lets every
path go on by itself. Both grow the same trees on the same engine: what a path says, how long it thinks and when it
answers is a function of the path alone, and the server samples as many tokens as the turn has. Turn lengths are
log-normal, as those of thinking models are; episodes have one to four searches. Once the search takes no time, as the
embedded index does, and once ``SEARCH`` seconds, as a retriever in another process may; the official schedule then
leaves the engine idle.

*Trees.* A tree of (M, K, L) has N = M + K·L leaves; beside it N chains (equal leaves), and as many chains as have the
tree's generated tokens (equal tokens).

*Prefix cache.* The policy's own turns, not scripted: tokens that the server did not compute again, of all that an
earlier prompt or its sequence began with too.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import aiohttp
import numpy as np

from at2po_agent.method.expansion import Chains, EntropyGuided, Expansion
from at2po_agent.method.groups import Rollout
from at2po_agent.policy.base import Completion, Request, Sampling
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.loading import resolve_policy
from at2po_agent.policy.sglang.fleet import Fleet
from at2po_agent.policy.sglang.policy import SGLangPolicy
from at2po_agent.policy.sglang.server import Server, sampling_params
from at2po_agent.rollouts.batch import rollout
from at2po_agent.rollouts.grow import Actor, Limits
from at2po_env.registration import make
from at2po_env.search_qa import SearchQAEnv
from at2po_env.state import Segment
from search_backend import Hit, SearchBackend

MEDIAN_TOKENS, SIGMA, LONGEST = 24, 1.0, 200  # of a turn's thoughts
CUTS = ((10, 6, 2), (6, 4, 1), (4, 2, 3))  # (M, K, L)
SEARCH = 0.25  # seconds
LIMITS = Limits(max_turn_tokens=256, max_context_tokens=1000)
RESULTS = Path(__file__).parent / "results" / "sglang_rollout.txt"


class Scripted:
    """A policy whose turns are written, and whose server samples as many tokens as they have."""

    def __init__(self, fleet: Fleet, codec: Codec) -> None:
        self._fleet, self._codec = fleet, codec
        self._thought = codec.observation((Segment("e", data=True),))[-1]

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Let the server work, return what is written."""
        return list(await asyncio.gather(*map(self._turn, requests)))

    async def _turn(self, request: Request) -> Completion:
        turn = request.key[-1]
        rng = np.random.default_rng(request.key)
        searches = int(np.random.default_rng(request.key[:-1]).integers(1, 5))
        action = "<search> Zewen sells</search>" if turn < searches else "<answer> Tiwen</answer>"
        thoughts = int(min(LONGEST, max(4, rng.lognormal(np.log(MEDIAN_TOKENS), SIGMA))))
        ids = (
            *self._codec.observation((Segment("<think>", data=False),)),
            *(self._thought,) * thoughts,
            *self._codec.observation((Segment("</think>" + action, data=False),)),
        )
        asked = Request(request.prompt, len(ids), request.key)
        params = sampling_params(asked, Sampling(1.0), (), None) | {"ignore_eos": True}
        answer = await self._fleet.generate(asked, params, 0)
        assert len(answer.ids) == len(ids), "both schedules must do equal work"
        return Completion(ids, tuple(np.round(-rng.exponential(0.3, len(ids)), 6).tolist()), "stop")


class SlowSearch:
    """A search that takes its time."""

    def __init__(self, search: SearchBackend, seconds: float) -> None:
        self._search, self._seconds = search, seconds
        self.manifest, self.search, self.close = search.manifest, search.search, search.close

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """What the other one finds, later."""
        await asyncio.sleep(self._seconds)
        return await self._search.asearch(queries, k)


@dataclass(frozen=True)
class Timed:
    """What one way took, and for what."""

    seconds: float
    tokens: int
    leaves: int
    turns: frozenset[tuple[str, tuple[int, ...]]]  # of all trees

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


class Bench:
    """A server and the questions that trees are grown of."""

    def __init__(self, url: str, questions: int) -> None:
        self.url = url
        self.codec = Codec.from_dir(resolve_policy("builtin:microwiki"))
        self.env: SearchQAEnv = make("microwiki", split="dev", k=1, dialect="bare", max_searches=6, world="tiny")
        self.ids = [question.id for question in self.env.questions[:questions]]

    def grow(self, expansion: Expansion, *, barrier: bool) -> Timed:
        """Grow the scripted trees on an empty cache."""

        async def timed() -> tuple[float, Rollout]:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=512)) as session:
                server = Server(self.url, session, timeout=600)
                fleet = Fleet([server], _trust)
                fleet.expect(await server.weight_version())
                await server.flush()
                started = perf_counter()
                actor = Actor(Scripted(fleet, self.codec), self.codec, limits=LIMITS, deterministic=barrier)
                grown = await rollout(self.env, self.ids, actor, expansion)
                return perf_counter() - started, grown

        seconds, grown = asyncio.run(timed())
        assert not grown.lost_paths
        turns = frozenset((tree.question_id, tree.prompt_ids(i)) for tree in grown.trees for i in tree.leaves)
        return Timed(seconds, grown.generated_tokens, sum(len(tree.leaves) for tree in grown.trees), turns)

    def shared_part(self) -> SGLangPolicy:
        """The policy's own trees; its counters are what is wanted."""
        policy = SGLangPolicy([self.url], self.codec)
        try:
            policy.clear_cache()
            expansion = EntropyGuided(*CUTS[0])
            actor = Actor(policy, self.codec, limits=LIMITS, deterministic=False)
            asyncio.run(rollout(self.env, self.ids, actor, expansion))
        finally:
            policy.close()
        return policy


async def _trust(server: Server) -> None:
    """The same server through the whole run."""


def schedules(bench: Bench, repeats: int, search_seconds: float = 0.0) -> list[str]:
    search = bench.env.search
    bench.env.search = SlowSearch(search, search_seconds) if search_seconds else search
    try:
        return _schedules(bench, repeats)
    finally:
        bench.env.search = search


def _schedules(bench: Bench, repeats: int) -> list[str]:
    expansion = EntropyGuided(*CUTS[0])
    free: list[Timed] = []
    turn_by_turn: list[Timed] = []
    for _ in range(repeats):
        turn_by_turn.append(bench.grow(expansion, barrier=True))
        free.append(bench.grow(expansion, barrier=False))
        assert free[-1].turns == turn_by_turn[-1].turns, "both schedules must grow the same trees"
    ratio = median(a.seconds / b.seconds for a, b in zip(turn_by_turn, free, strict=True))
    lines = [
        f"{len(bench.ids)} trees of {CUTS[0]}: {free[0].leaves} leaves, {free[0].tokens} tokens; median of {repeats}",
        "schedule               seconds  tokens/s",
    ]
    for name, found in (("turn by turn, waiting", turn_by_turn), ("without a barrier", free)):
        middle = sorted(found, key=lambda one: one.seconds)[len(found) // 2]
        lines.append(f"{name:21s} {middle.seconds:8.1f} {middle.rate:9.0f}")
    return [*lines, f"without a barrier is {ratio:.2f} times faster (pairs: {_pairs(turn_by_turn, free)})"]


def _pairs(slow: Sequence[Timed], fast: Sequence[Timed]) -> str:
    return ", ".join(f"{a.seconds / b.seconds:.2f}" for a, b in zip(slow, fast, strict=True))


def overhead(bench: Bench) -> list[str]:
    lines = ["(M, K, L)    what                    leaves   tokens  seconds  tokens/s  seconds per leaf"]
    for m, k, rounds in CUTS:
        tree = bench.grow(EntropyGuided(m, k, rounds), barrier=False)
        leaves = m + k * rounds
        chains = bench.grow(Chains(leaves), barrier=False)
        equal = bench.grow(Chains(max(1, round(leaves * tree.tokens / chains.tokens))), barrier=False)
        for name, found in (("tree", tree), ("chains, equal leaves", chains), ("chains, equal tokens", equal)):
            lines.append(
                f"{(m, k, rounds)!s:12s} {name:22s} {found.leaves:7d} {found.tokens:8d} {found.seconds:8.1f} "
                f"{found.rate:9.0f} {found.seconds / found.leaves:17.3f}"
            )
    return lines


def cache(bench: Bench) -> list[str]:
    policy = bench.shared_part()
    stats = policy.stats
    return [
        f"the policy's own trees of {CUTS[0]}: {stats.prompt_tokens} prompt tokens, {stats.sharable_tokens} sharable, "
        f"{stats.shared_tokens} of them not computed again: {stats.shared_tokens / stats.sharable_tokens:.1%}"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    bench = Bench(arguments.url, arguments.questions)
    bench.grow(Chains(2), barrier=False)  # the server's first requests are slower
    report = ""
    sections: dict[str, Callable[[], list[str]]] = {
        "Schedules, a search takes no time": partial(schedules, bench, arguments.repeats),
        f"Schedules, a search takes {SEARCH} s": partial(schedules, bench, arguments.repeats, SEARCH),
        "Prefix cache": partial(cache, bench),
        "Trees and chains, without a barrier": partial(overhead, bench),
    }
    for title, measure in sections.items():
        section = "\n".join([title, *measure(), ""])
        print(section, flush=True)
        report += section + "\n"
    RESULTS.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
