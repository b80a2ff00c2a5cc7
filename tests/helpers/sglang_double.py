"""The transport seam of SGLang: an HTTP server that answers as 0.5.23 was seen to, and misbehaves when told to.

Its "model" prefers token (last id of the sequence + 1) by 3 nats over all others, and has CODEC's vocabulary.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from search_backend.background import BackgroundLoop
from tests.helpers.tiny_models import CODEC

V = CODEC.vocab_size
Behaviour = Callable[[dict[str, Any]], Any]
DROP = object()  # a behaviour's answer: the connection ends, as when the process is killed


class Double:
    """A server whose next answers can be scripted; it keeps every request and answer."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []  # turns asked of /generate, alone or together, in order of arrival
        self.batches: list[int] = []  # turns of every request for several
        self.aborted: list[str] = []
        self.version = "default"
        self.raw_logprobs = False
        self.seeds = False
        self.longest = 250  # tokens of a prompt
        self.misbehave: list[Behaviour] = []  # each takes one request to /generate
        self.flushes = 0
        self.says: str | None = None  # JSON in place of what it is
        self.url = ""
        # In place of its own answer to every /generate.
        self.answers: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    @property
    def turns(self) -> list[dict[str, Any]]:
        """Requests for turns, without what was only read ahead or asked as a check."""
        return [r for r in self.requests if "rid" in r and r["sampling_params"]["max_new_tokens"] > 1]

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/server_info", self._info),
            web.get("/model_info", self._info),
            web.post("/generate", self._generate),
            web.post("/abort_request", self._abort),
            web.post("/flush_cache", self._flush),
        ]

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(self.routes())
        return app

    async def _info(self, request: web.Request) -> web.Response:
        if self.says is not None:
            return web.Response(text=self.says, content_type="application/json")
        return web.json_response(
            {
                "weight_version": self.version if request.path == "/model_info" else "default",  # for ever
                "max_req_input_len": self.longest,
                "enable_deterministic_inference": self.seeds,
            }
        )

    async def _abort(self, request: web.Request) -> web.Response:
        self.aborted.append((await request.json())["rid"])
        return web.Response()

    async def _flush(self, request: web.Request) -> web.Response:
        self.flushes += 1
        return web.Response(text="Cache flushed.")

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        if self.answers:
            return await self.answers(request)
        body = await request.json()
        if body.get("stream"):
            return await self._stream(request, body)
        told = await self._turn(body)
        if told is DROP:
            assert request.transport is not None
            request.transport.close()
        return told if isinstance(told, web.Response) else web.json_response(told)

    async def _stream(self, request: web.Request, batch: dict[str, Any]) -> web.StreamResponse:
        """Several turns in one request: the first token of each, then each as soon as it is done."""
        self.batches.append(len(batch["rid"]))
        bodies = [{name: v[i] for name, v in batch.items() if name != "stream"} for i in range(len(batch["rid"]))]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def say(told: Any) -> None:
            await response.write(b"data: " + (json.dumps(told).encode() if isinstance(told, dict) else told) + b"\n\n")

        for body in bodies:
            meta = {"id": body["rid"], "finish_reason": None}
            await say({"output_ids": [0], "meta_info": meta})
        for turn in asyncio.as_completed([asyncio.create_task(self._named_turn(body)) for body in bodies]):
            rid, told = await turn
            if told is DROP:
                assert request.transport is not None
                request.transport.close()
                return response
            if isinstance(told, web.Response):
                failed = {"type": "abort", "message": "", "status_code": told.status}
                refusal = {"output_ids": [], "meta_info": {"finish_reason": failed}}
                told = told.body if told.status == 200 else refusal
            if isinstance(told, dict):
                told["meta_info"]["id"] = rid
            await say(told)
        await say(b"[DONE]")
        return response

    async def _named_turn(self, body: dict[str, Any]) -> tuple[str, Any]:
        return body["rid"], await self._turn(body)

    async def _turn(self, body: dict[str, Any]) -> Any:
        self.requests.append(body)
        if self.misbehave and body["sampling_params"]["max_new_tokens"] > 1:
            told = self.misbehave.pop(0)(body)
            if asyncio.iscoroutine(told):
                told = await told
            if told is not None:
                return told
        return self.answer(body)

    def answer(self, body: dict[str, Any], **meta: Any) -> dict[str, Any]:
        params = body["sampling_params"]
        count, temperature = params["max_new_tokens"], params.get("temperature", 1.0) or 1.0
        last = body["input_ids"][-1]
        ids = [(last + 1 + i) % V for i in range(count)]
        high, low = self.logprobs(1.0 if self.raw_logprobs else temperature)
        top = [
            [[high if n == 0 else low, (i + n) % V, None] for n in range(body.get("top_logprobs_num", 0))] for i in ids
        ]
        found = {
            "finish_reason": {"type": "length", "length": count},
            "cached_tokens": 0,
            "weight_version": self.version,
            "weight_versions": [{"version": self.version, "start": 0, "end": count}],
            "output_token_logprobs": [[high, i, None] for i in ids],
            "output_top_logprobs": top,
        }
        return {"output_ids": ids, "text": "", "meta_info": found | meta}

    @staticmethod
    def logprobs(temperature: float) -> tuple[float, float]:
        total = math.log(math.exp(3 / temperature) + V - 1)
        return 3 / temperature - total, -total


@contextmanager
def serving(double: Double) -> Iterator[Double]:
    """Serve on a free port of this machine."""
    background = BackgroundLoop("double")

    async def start() -> web.AppRunner:
        runner = web.AppRunner(double.app(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        double.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    runner = background.run(start())
    try:
        yield double
    finally:
        background.run(runner.cleanup())
        background.close()
