"""Time that the SGLang client takes of its own: rollouts against a server that answers at once, on another core.

    python -m benchmarks.sglang_client [--questions 32] [--repeats 5] [--beside DIR] [--url URL]

The server is a stub: it speaks as much of SGLang's HTTP as the client asks for, and says one of three prepared turns
without a model. All that is measured is what this process does: trees and environments, the embedded index, the client
and HTTP. With ``--beside``, the code of another checkout (an older commit, say) does the same work in turn.

With ``--url``, a real server of the MicroWiki policy samples the turns (``python -m sglang.launch_server --model-path
at2po_agent/data/microwiki …``). Give it the other core: this process takes the first one.

*Chains* are what GRPO samples; *trees* also ask for the likely tokens of every position, which entropy is taken from.
*Prompts* are those of the chains, completed again by the client alone, at most 256 at the same time. Python's garbage
collector is set as ``at2po-agent train`` sets it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from at2po_agent.method.expansion import Chains, EntropyGuided, Expansion
from at2po_agent.policy.base import Completion, Request, Sampling, Stats
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.loading import resolve_policy
from at2po_agent.policy.sglang.policy import SGLangPolicy
from at2po_agent.rollouts.batch import rollout
from at2po_agent.rollouts.grow import Actor
from at2po_agent.tasks import run_pool
from at2po_env.registration import make
from at2po_env.state import Segment

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
TURNS = ("<search> Zewen sells</search>", "<search> Tiwen</search>", "<answer> Tiwen</answer>")
WAYS: dict[str, Expansion] = {"chains": Chains(16), "trees": EntropyGuided(10, 6, 1), "prompts": Chains(16)}
AT_ONCE = 256


class Stub(asyncio.Protocol):
    """One connection to the server that answers at once."""

    def __init__(self, turns: Sequence[Sequence[int]]) -> None:
        self._turns, self._buffer, self._said = turns, b"", 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"(?i)content-length: *(\d+)", self._buffer[:end])
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            request, self._buffer = self._buffer[:whole], self._buffer[whole:]
            self._answer(request[: request.index(b"\r\n")], request[end + 4 :])

    def _answer(self, line: bytes, body: bytes) -> None:
        if b"/generate" not in line:
            self._say({"weight_version": "1", "max_req_input_len": 4000, "enable_deterministic_inference": False})
            return
        asked = json.loads(body)
        if not asked.get("stream"):
            self._say(self._turn(asked))
            return
        events: list[bytes] = []
        for i in range(len(asked["rid"])):
            done = self._turn({name: value[i] for name, value in asked.items() if name != "stream"})
            # As the real one does, the first token at once, and again when all are there.
            first = {
                **done,
                "output_ids": done["output_ids"][:1],
                "meta_info": {**done["meta_info"], "finish_reason": None},
            }
            events += [b"data: " + json.dumps(event).encode() + b"\n\n" for event in (first, done)]
        self._send(b"".join(events) + b"data: [DONE]\n\n", "text/event-stream")

    def _say(self, told: dict[str, Any]) -> None:
        self._send(json.dumps(told).encode(), "application/json")

    def _send(self, body: bytes, kind: str) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)

    def _turn(self, asked: dict[str, Any]) -> dict[str, Any]:
        most, likely = asked["sampling_params"]["max_new_tokens"], asked.get("top_logprobs_num", 0)
        self._said += 1
        ids = list(self._turns[(len(asked["input_ids"]) + self._said) % len(self._turns)])[:most]
        meta = {
            "id": asked.get("rid"),
            "finish_reason": {"type": "stop", "matched": "</answer>"},
            "prompt_tokens": len(asked["input_ids"]),
            "completion_tokens": len(ids),
            "cached_tokens": len(asked["input_ids"]) - 1,
            "weight_version": "1",
            "output_token_logprobs": [[-0.7, i, None] for i in ids],
            "output_top_logprobs": [[[-2.5, n, None] for n in range(likely)] for _ in ids],
        }
        return {"text": "", "output_ids": ids, "meta_info": meta}


def serve(turns: Sequence[Sequence[int]], cores: set[int], ready: Connection) -> None:
    """Run the stub until the process is killed."""

    async def forever() -> None:
        os.sched_setaffinity(0, cores)
        server = await asyncio.get_running_loop().create_server(lambda: Stub(turns), "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


@contextmanager
def stub(cores: set[int]) -> Iterator[str]:
    """URL of a stub on these cores."""
    codec = Codec.from_dir(resolve_policy("builtin:microwiki"))
    turns = [codec.observation((Segment(text, data=False),)) for text in TURNS]
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(turns, cores, send), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{receive.recv()}"
    finally:
        process.kill()
        process.join()


class Noted:
    """A policy that notes what it is asked for."""

    def __init__(self, policy: SGLangPolicy) -> None:
        self._policy = policy
        self.requests: list[tuple[Request, Sampling]] = []

    @property
    def stats(self) -> Stats:
        """Of the policy."""
        return self._policy.stats

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """As the policy does."""
        self.requests += [(request, sampling) for request in requests]
        return await self._policy.generate(requests, sampling)


def measure(url: str, questions: int, way: str) -> dict[str, float]:
    """Roll out once: turns, seconds and this process's processor seconds."""
    codec = Codec.from_dir(resolve_policy("builtin:microwiki"))
    env = make("microwiki", split="train", k=1, dialect="bare", world="tiny")
    ids = env.tasks[:questions]
    with closing(SGLangPolicy([url], codec)) as policy:
        noted = Noted(policy)
        asyncio.run(rollout(env, ids[:2], Actor(policy, codec, deterministic=False), WAYS[way]))
        if way == "prompts":
            policy.run(rollout(env, ids, Actor(noted, codec, deterministic=False), WAYS[way]))
            policy.clear_cache()
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        began, busy = perf_counter(), process_time()
        if way == "prompts":
            policy.run(complete(policy, noted.requests))
            turns = len(noted.requests)
        else:
            grown = policy.run(rollout(env, ids, Actor(policy, codec, deterministic=False), WAYS[way]))
            assert not grown.lost_paths
            turns = sum(len(tree) - 1 for tree in grown.trees)
        seconds, busy = perf_counter() - began, process_time() - busy
    return {"turns": turns, "seconds": seconds, "processor": busy}


async def complete(policy: SGLangPolicy, requests: Sequence[tuple[Request, Sampling]]) -> None:
    """Complete every prompt, as rollouts do one by one."""

    async def one(asked: tuple[Request, Sampling]) -> None:
        await policy.generate([asked[0]], asked[1])

    await run_pool(requests, one, AT_ONCE)


def run(source: Path, url: str, questions: int, way: str, core: int) -> dict[str, float]:
    """``measure`` in a process of its own, with the code of ``source``."""
    # This file itself may not be there yet in an older checkout: it is run by its path.
    command = [sys.executable, __file__, "--measure", way, "--url", url, "--questions", str(questions)]
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["taskset", "-c", str(core), *command], env=environment, cwd=source, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--beside", type=Path, help="another checkout, whose code does the same work in turn")
    parser.add_argument("--url", help="a real server in place of the stub")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.url, arguments.questions, arguments.measure)))
        return
    sources = {"this code": ROOT} | ({"beside it": arguments.beside.resolve()} if arguments.beside else {})
    mine, *others = sorted(os.sched_getaffinity(0))
    lines = [f"{'':8}{'':12}{'turns':>8}{'seconds':>9}{'turns/s':>9}{'processor µs a turn':>21}"]
    with nullcontext(arguments.url) if arguments.url else stub(set(others) or {mine}) as url:
        for way in WAYS:
            found: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
            for _ in range(arguments.repeats):
                for name, source in sources.items():
                    found[name].append(run(source, url, arguments.questions, way, mine))
            for name, runs in found.items():
                seconds = median(one["seconds"] for one in runs)
                rate = median(one["turns"] / one["seconds"] for one in runs)
                own = median(1e6 * one["processor"] / one["turns"] for one in runs)
                lines.append(f"{way:8}{name:12}{runs[0]['turns']:8.0f}{seconds:9.3f}{rate:9.0f}{own:21.0f}")
            print("\n".join(lines), flush=True)
    name = "sglang_client_real.txt" if arguments.url else "sglang_client.txt"
    (RESULTS / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
