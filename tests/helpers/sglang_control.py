"""The transport seam of SGLang with its control side: a small model behind it, whose weights can be updated."""

from __future__ import annotations

import base64
import pickle
from typing import Any

import torch
from aiohttp import web
from transformers import AutoModelForCausalLM

from tests.helpers.sglang_double import Double

PATHS = (
    "/pause_generation",
    "/continue_generation",
    "/begin_weight_update",
    "/end_weight_update",
    "/update_weights_from_disk",
    "/update_weights_from_tensor",
    "/release_memory_occupation",
    "/resume_memory_occupation",
)


class Controlled(Double):
    """Samples greedily from a real module, and keeps the order of the calls that control it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.memory_saver = False
        self.calls: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.refuse: dict[str, int] = {}  # path → status of its next answer

    def routes(self) -> list[web.RouteDef]:
        control = [web.post(path, self._control) for path in PATHS]
        return [*super().routes(), web.get("/health", self._health), *control]

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _info(self, request: web.Request) -> web.Response:
        if self.says is not None:
            return await super()._info(request)
        return web.json_response(
            {
                "weight_version": self.version,
                "max_req_input_len": self.longest,
                "enable_deterministic_inference": False,
                "enable_memory_saver": self.memory_saver,
                "tp_size": 2,
            }
        )

    async def _control(self, request: web.Request) -> web.Response:
        body = await request.json()
        tags = "+".join(body.get("tags", []))
        self.calls.append(request.path.removeprefix("/") + (f" {tags}" if tags else ""))
        self.bodies.append(body)
        if status := self.refuse.pop(request.path, 0):
            return web.json_response({"success": False, "message": "not now"}, status=status)
        if "model_path" in body:
            self.model = AutoModelForCausalLM.from_pretrained(body["model_path"])
        for payload in body.get("serialized_named_tensors", [])[:1]:
            self.model.load_state_dict(dict(pickle.loads(base64.b64decode(payload))), strict=False)
        self.version = body.get("weight_version", self.version)
        return web.json_response({"success": True})

    @torch.no_grad()
    def answer(self, body: dict[str, Any], **meta: Any) -> dict[str, Any]:
        ids, params = list(body["input_ids"]), body["sampling_params"]
        new: list[int] = []
        logprobs, top = [], []
        for _ in range(params["max_new_tokens"]):
            logits = self.model(torch.tensor([ids + new])).logits[0, -1]
            values, order = torch.log_softmax(logits / (params.get("temperature") or 1.0), -1).sort(descending=True)
            new.append(int(order[0]))
            logprobs.append([float(values[0]), new[-1], None])
            top.append([[float(values[n]), int(order[n]), None] for n in range(body.get("top_logprobs_num", 0))])
        found = {
            "finish_reason": {"type": "length", "length": len(new)},
            "cached_tokens": 0,
            "weight_version": self.version,
            "output_token_logprobs": logprobs,
            "output_top_logprobs": top,
        }
        return {"output_ids": new, "text": "", "meta_info": found | meta}
