"""``Stops``: where a turn ends."""

from __future__ import annotations

from collections.abc import Sequence

from at2po_agent.policy.base import Finish
from at2po_agent.policy.codec import Codec


class Stops:
    """Finds the end of a turn; text is decoded only when a token was sampled that can complete a stop string."""

    def __init__(self, codec: Codec, stop: tuple[str, ...], token_texts: Sequence[str]) -> None:
        self._codec, self._stop = codec, stop
        last = {text[-1] for text in stop} | {"\ufffd"}  # a token may hold a part of a character
        anything = any(character.isspace() for character in last)  # decoders treat spaces by context
        self._completing = (
            {i for i, text in enumerate(token_texts) if anything or not last.isdisjoint(text)} if stop else set()
        )

    def finish(self, ids: Sequence[int]) -> Finish | None:
        """Why a turn of these tokens is finished, or None."""
        if ids[-1] in self._codec.eos_ids:
            return "eos"
        if ids[-1] in self._completing:
            text = self._codec.decode_action(ids)
            if any(stop in text for stop in self._stop):
                return "stop"
        return None
