"""Inspect's model, as an endpoint that our episodes are played with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from inspect_ai.model import ContentReasoning, GenerateConfig, Model, ModelOutput
from inspect_ai.tool import ToolCall, ToolInfo

from at2po_agent.integrations.inspect_log import chat_messages
from at2po_agent.judge.endpoint.client import Call
from at2po_agent.judge.endpoint.context import ask_what_fits
from at2po_agent.judge.endpoint.refusals import ContextFull, Filtered, read_refusal
from at2po_agent.judge.endpoint.replies import Reply

_FINISH = {"max_tokens": "length"}  # Inspect's words for ours, where they differ


class InspectModel:
    """Inspect's model, as an endpoint that our episodes are played with. Inspect itself tries again."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.last = ModelOutput()

    async def complete(self, call: Call) -> Reply:
        """Answer one call.

        Raises:
            ContextFull: the conversation is longer than the model can read.
            Filtered: a filter of contents refuses it.
        """
        return await ask_what_fits(partial(self._ask, call), call.fields())

    async def _ask(self, call: Call, fields: Mapping[str, Any]) -> Reply:
        stops = list(call.stop) or None
        config = GenerateConfig(
            max_tokens=fields.get("max_tokens"), temperature=call.temperature, stop_seqs=stops, seed=call.seed
        )
        tools = [ToolInfo.model_validate(schema["function"]) for schema in call.tools]
        try:
            output = await self.model.generate(chat_messages(call.messages), tools, config=config)
        except RuntimeError as error:
            # What a provider refused with a status, and Inspect takes for no limit of the model.
            status = getattr(error, "status_code", None)
            refused = None if status is None else read_refusal(status, str(error.__cause__), {})
            if refused is None or refused.kind is not ContextFull:
                raise
            raise ContextFull(refused.said, refused.said) from error
        if output.stop_reason == "model_length":
            raise ContextFull(f"{self.model} cannot read so long a conversation", output.completion)
        if output.stop_reason == "content_filter" and output.usage is None:
            # In place of an answer, which would be scored, Inspect gives the words of the refusal.
            raise Filtered(f"{self.model} refuses the conversation: {output.completion:.300}")
        self.last = output
        return _reply(output)


def _reply(output: ModelOutput) -> Reply:
    content, calls = output.message.content, output.message.tool_calls or []
    parts = [] if isinstance(content, str) else [part for part in content if isinstance(part, ContentReasoning)]
    # Inspect takes thoughts out of the message: those that stood in it go back, the others came apart from it.
    thought = "".join(f"<think>\n{part.reasoning}\n</think>\n" for part in parts if part.internal == "think")
    usage = output.usage
    cached = () if usage is None else (usage.input_tokens_cache_read or 0, usage.input_tokens_cache_write or 0)
    read = None if usage is None else usage.input_tokens + sum(cached)
    return Reply(
        text=thought + output.message.text,
        finish=_FINISH.get(output.stop_reason, output.stop_reason),
        reasoning="".join(part.reasoning for part in parts if part.internal != "think"),
        tool_calls=tuple(map(_call, calls)),
        prompt_tokens=read,
        completion_tokens=None if usage is None else usage.output_tokens,
        seconds=output.time or 0.0,
    )


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.function, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
    return {"id": call.id, "type": "function", "function": function}
