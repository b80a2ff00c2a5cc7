"""A policy that reads re-encoded histories, as in systems that keep text instead of token ids: to measure the cost.

What it samples continues other ids than the tree holds, so the update's ratio is not 1 before anything was learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from at2po_agent.policy.base import Completion, Policy, Request, Sampling
from at2po_agent.policy.codec import Codec


class Retokenised:
    """``policy`` behind an encoder that forgets what was sampled.

    Args:
        policy: samples.
        codec: its tokenizer.
    """

    def __init__(self, policy: Policy, codec: Codec) -> None:
        self.policy, self.codec = policy, codec

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Continue every prompt's text, encoded anew; a prompt that grew by it has so much less room."""
        return await self.policy.generate([self._encoded_anew(request) for request in requests], sampling)

    def _encoded_anew(self, request: Request) -> Request:
        prompt = tuple(token for token, _, _ in self.codec.encode_with_spans(self.codec.decode(request.prompt)))
        grown = max(0, len(prompt) - len(request.prompt))
        return replace(request, prompt=prompt, max_new_tokens=max(1, request.max_new_tokens - grown))
