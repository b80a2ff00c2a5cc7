"""The transport seam of SGLang with a server that plays MicroWiki: prepared turns, rated by its own weights."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from aiohttp import web

from at2po_agent.policy.loading import load_policy, resolve_policy
from at2po_env.state import Segment
from tests.helpers.sglang_control import Controlled
from tests.helpers.sglang_double import serving

TURNS = ("<search> Zewen sells</search>", "<answer> Tiwen</answer>", "no tag")


class Player(Controlled):
    """Says one of ``TURNS``, the next one at each request, as if its module had sampled it."""

    def __init__(self) -> None:
        model, codec = load_policy(resolve_policy("builtin:microwiki"))
        super().__init__(model)
        self.longest = 1000
        self._says = [codec.observation((Segment(text, data=False),)) for text in TURNS]
        self._said = 0
        self.events: list[str] = []  # "turn VERSION" and "weights VERSION", in order
        self.hold = threading.Event()  # turns are answered while it is set
        self.hold.set()
        self.asked = threading.Event()  # set by every turn

    def hold_back(self) -> None:
        """Answer no turn until ``hold`` is set; ``asked`` tells that one waits."""
        self.asked.clear()
        self.hold.clear()

    async def _turn(self, body: dict[str, Any]) -> Any:
        if body["sampling_params"]["max_new_tokens"] > 1:
            self.asked.set()
            self.events.append(f"turn {self.version.rpartition('-')[2]}")
            while not self.hold.is_set():
                await asyncio.sleep(0.005)
        self.requests.append(body)
        return self.answer(body)

    async def _control(self, request: web.Request) -> web.Response:
        before = self.version
        response = await super()._control(request)
        if self.version != before:
            self.events.append(f"weights {self.version.rpartition('-')[2]}")
        return response

    @torch.no_grad()
    def answer(self, body: dict[str, Any], **meta: Any) -> dict[str, Any]:
        if body["sampling_params"]["max_new_tokens"] <= 1:
            return super().answer(body, **meta)
        self._said += 1
        prompt, ids = list(body["input_ids"]), self._says[self._said % len(self._says)]
        logits = self.model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        logprobs = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids)[:, None])[:, 0].tolist()
        found = {
            "finish_reason": {"type": "stop", "matched": ids[-1]},
            "cached_tokens": 0,
            "weight_version": self.version,
            "output_token_logprobs": [[value, i, None] for value, i in zip(logprobs, ids, strict=True)],
        }
        return {"output_ids": list(ids), "text": "", "meta_info": found | meta}


@contextmanager
def playing() -> Iterator[Player]:
    """Serve a player."""
    player = Player()
    with serving(player):
        yield player
