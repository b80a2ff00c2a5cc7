"""What judging costs this process per episode, beside the naive loop with the raw client.

Run it with ``python -m benchmarks.judge_overhead``; it prints a table and writes it to
``benchmarks/results/judge_overhead.txt``. A server in another process answers at once, so that nothing but the client
is measured: processor time of this process for two-turn episodes, 64 at a time, with results of three passages.
The naive loop asks, steps the environment and keeps the score. Ours also retries, paces, reads answers without trust,
records every turn and flushes each episode to the disk.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from at2po_agent.judge.config import JudgeConfig, ModelConfig
from at2po_agent.judge.endpoint.client import ChatEndpoint
from at2po_agent.judge.episodes.play import run_episodes
from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.judge.results.directory import JudgeDirectory
from at2po_env import Dataset, Question, SearchQAEnv
from at2po_env.rules import Rules
from search_backend.base import Hit, Manifest, Passage

EPISODES, AT_A_TIME, ROUNDS = 128, 64, 5
TURNS = ("<think>Let me see.</think><search>the mayor of Paris", "<think>That is it.</think><answer>Paris")


class InstantSearch:
    """Answers every query with the same three passages of 100 words."""

    manifest = Manifest("instant", "benchmark", 3, "none")

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The same hits for every query."""
        text = " ".join(f"word{n}" for n in range(100))
        return [[Hit(Passage(str(n), f"Title {n}", text), 1.0) for n in range(3)] for _ in queries]

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The same hits for every query."""
        return self.search(queries, k)

    def close(self) -> None:
        """Nothing is held."""


class Handler(BaseHTTPRequestHandler):
    """Searches in the first turn and answers in the second."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """One chat completion."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"role": "assistant", "content": TURNS[len(asked["messages"]) > 1]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    """Takes many connections at once."""

    request_queue_size = 1024
    daemon_threads = True


def serve(said: Connection) -> None:
    server = Server(("127.0.0.1", 0), Handler)
    said.send(server.server_address[1])
    server.serve_forever()


async def naive(url: str, env: SearchQAEnv, ids: list[str]) -> float:
    """What one writes first: ask, step, until it is over."""
    client = AsyncOpenAI(base_url=url, api_key="none")
    gate = asyncio.Semaphore(AT_A_TIME)

    async def one(question_id: str) -> float:
        async with gate:
            own = env.clone()
            observation, info = own.reset(options={"question_id": question_id})
            said: list[ChatCompletionMessageParam] = [{"role": "user", "content": observation}]
            over = False
            while not over:
                answer = await client.chat.completions.create(
                    model="m", messages=said, temperature=0, max_tokens=512, stop=list(env.stop)
                )
                text = answer.choices[0].message.content or ""
                text += "</search>" if "<search>" in text else "</answer>"
                observation, _, terminated, truncated, info = await own.astep(text)
                over = terminated or truncated
                said += [{"role": "assistant", "content": text}, {"role": "user", "content": observation}]
            return float(info["em"])

    scores = await asyncio.gather(*map(one, ids))
    await client.close()
    return sum(scores)


async def ours(url: str, env: SearchQAEnv, ids: list[str], folder: Path) -> float:
    """The evaluation's own path, with its directory."""
    model = ModelConfig("m", url)
    config = JudgeConfig(envs=("X-v0",), model=model, concurrency=AT_A_TIME, out=str(folder))
    scores: list[float] = []

    def on_record(record: EpisodeRecord) -> None:
        directory.append([record])
        scores.append(record.em or 0.0)

    with JudgeDirectory.create(config, {}) as directory:
        async with ChatEndpoint(model, config.limits, concurrency=AT_A_TIME) as endpoint:
            todo = [(question_id, 0) for question_id in ids]
            await run_episodes(env, endpoint, config, todo, on_record)
    return sum(scores)


def cost(work: Callable[[], float]) -> float:
    """Milliseconds of processor time per episode."""
    started = time.process_time()
    assert work() == EPISODES
    return (time.process_time() - started) * 1000 / EPISODES


def main() -> None:
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{here.recv()}/v1"
    ids = [f"q{n}" for n in range(EPISODES)]
    env = SearchQAEnv(
        Dataset.of([Question(i, "Where?", ("Paris",)) for i in ids]), InstantSearch(), Rules.of(dialect="chat")
    )
    table = [
        f"Python {platform.python_version()}, {platform.machine()}; ms of processor time per two-turn episode",
        f"{EPISODES} episodes, {AT_A_TIME} at a time; the median of {ROUNDS} rounds, turn and turn about",
        "",
    ]
    with tempfile.TemporaryDirectory() as folder:
        pairs = [
            (
                cost(lambda: asyncio.run(naive(url, env, ids))),
                cost(lambda: asyncio.run(ours(url, env, ids, Path(folder)))),
            )
            for _ in range(ROUNDS)
        ]
    process.kill()
    raw, judged = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(after / before for before, after in pairs)
    table += [
        f"naive loop, raw client      {raw:6.2f}",
        f"at2po-agent eval            {judged:6.2f}",
        f"ratio, median of the pairs  {ratio:6.2f}",
    ]
    text = "\n".join(table) + "\n"
    print(text, end="")
    (Path(__file__).parent / "results" / "judge_overhead.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
