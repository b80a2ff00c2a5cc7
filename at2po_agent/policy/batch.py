"""``Batch``: the sequences that run together; new ones join and finished ones leave between any two tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from at2po_agent.encoding import Codec
from at2po_agent.policy.base import Completion, Finish, Request, Sampling, Stats
from at2po_agent.policy.kv import KVSlots
from at2po_agent.policy.prefix_cache import PrefixCache
from at2po_agent.policy.prefixes import Ids, common_prefix
from at2po_agent.policy.sampler import sample, uniforms

_PREFILL_TOKENS = 2048  # of one forward pass, padding included: few enough to pad little, and to stay in the cache
_SHARED_TOKENS = 16  # a prefix of a whole batch shorter than this is not worth a pass of its own


@dataclass(eq=False)
class Row:
    """One running request. The last of ``ids`` is not in the key/value states yet."""

    request: Request
    sampling: Sampling
    finished: Callable[[Completion], None]
    cancelled: Callable[[], bool]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[tuple[tuple[int, float], ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.noise = uniforms(self.request.key, self.request.max_new_tokens)

    @property
    def cached(self) -> int:
        """How many tokens have key/value states."""
        return len(self.request.prompt) + max(0, len(self.ids) - 1)


class Stops:
    """Finds the end of a turn; text is decoded only when a token was sampled that can complete a stop string."""

    def __init__(self, codec: Codec, stop: tuple[str, ...], token_texts: Sequence[str]) -> None:
        self._codec, self._stop = codec, stop
        last = {text[-1] for text in stop} | {"\ufffd"}  # a token may hold a part of a character
        anything = any(character.isspace() for character in last)  # decoders treat spaces by context
        self._completing = (
            {i for i, text in enumerate(token_texts) if anything or not last.isdisjoint(text)} if stop else set()
        )

    def finish(self, row: Row) -> Finish | None:
        """Why the row is finished, or None."""
        if row.ids[-1] in self._codec.eos_ids:
            return "eos"
        if row.ids[-1] in self._completing:
            text = self._codec.decode_action(row.ids)
            if any(stop in text for stop in self._stop):
                return "stop"
        return "length" if len(row.ids) >= row.request.max_new_tokens else None


class Batch:
    """Runs a model over rows; row ``i`` is in slot ``i``. Not thread-safe.

    Args:
        model: a transformers causal LM with full attention and ``sdpa``.
        codec: its tokenizer.
        cache_bytes: bound of the prefix cache.
    """

    def __init__(self, model: Any, codec: Codec, cache_bytes: int) -> None:
        self.model, self.codec = model, codec
        self.rows: list[Row] = []
        self.stats = Stats()
        self.version = 0
        self._cache = PrefixCache(cache_bytes)
        self._kv = KVSlots(model.config, model.dtype, model.device)
        self._stops: dict[tuple[str, ...], Stops] = {}
        self._texts: list[str] = []

    def clear_cache(self) -> None:
        """Forget the states of earlier sequences."""
        self._cache.clear()

    def reset(self) -> None:
        """Drop every row and everything that was computed, after an error."""
        self.rows.clear()
        self._cache.clear()
        self._kv = KVSlots(self.model.config, self.model.dtype, self.model.device)

    def drop_cancelled(self) -> None:
        """Take out the rows whose callers have gone."""
        for slot in reversed(range(len(self.rows))):
            if self.rows[slot].cancelled():
                self._leave(slot)

    @torch.no_grad()
    def admit(self, rows: Sequence[Row]) -> None:
        """Read the prompts of new rows, equal ones once, and sample their first tokens."""
        twins: dict[Ids, list[Row]] = {}
        for row in rows:
            twins.setdefault(row.request.prompt, []).append(row)
        self._kv.reserve(len(self.rows) + len(rows), max(map(len, twins)) + 1)
        self._read_shared(list(twins))
        first = len(self.rows)
        prompts, logits = self._read(list(twins))
        joined = [twins[prompt][0] for prompt in prompts]
        sources = list(range(len(prompts)))
        for source, prompt in enumerate(prompts):
            for twin in twins[prompt][1:]:
                self._kv.copy(first + source, first + len(joined), len(prompt))
                joined.append(twin)
                sources.append(source)
        self.rows += joined
        self.stats.prompt_tokens += sum(len(row.request.prompt) for row in rows)
        self._extend(first, logits[sources])

    @torch.no_grad()
    def step(self) -> None:
        """Sample one more token on every row."""
        lengths = [row.cached for row in self.rows]
        positions = torch.tensor(lengths, device=self.model.device)[:, None]
        ids = torch.tensor([row.ids[-1] for row in self.rows], device=self.model.device)[:, None]
        seen = max(lengths) + 1
        self._kv.reserve(len(lengths), seen)
        self._extend(0, self._forward(0, ids, positions, positions, seen))

    def _read_shared(self, prompts: Sequence[Ids]) -> None:
        """Instructions that all prompts of a batch begin with are read once."""
        low, high = min(prompts), max(prompts)
        shared = low[: common_prefix(low, high)]
        if low != high and len(shared) >= _SHARED_TOKENS and self._cache.match(shared)[0] < len(shared):
            self._read([shared])
            self._cache.insert(shared, self._kv.read(len(self.rows), len(shared)))

    def _read(self, prompts: Sequence[Ids]) -> tuple[list[Ids], torch.Tensor]:
        """Fill the slots after the running rows with prompts; what the prefix cache has is not computed again.

        Returns:
            the prompts in the order of their slots, and the logits after each; ``[prompts, vocabulary]``.
        """
        found = {prompt: self._cache.match(prompt) for prompt in prompts}
        known = {prompt: min(length, len(prompt) - 1) for prompt, (length, _) in found.items()}
        ordered = sorted(prompts, key=lambda prompt: len(prompt) - known[prompt])
        first = len(self.rows)
        for slot, prompt in enumerate(ordered, first):
            states = found[prompt][1]
            if states is not None:
                self._kv.write(slot, states, known[prompt])
        logits, start = [], 0
        while start < len(ordered):
            end = start + 1
            while (
                end < len(ordered) and (end + 1 - start) * (len(ordered[end]) - known[ordered[end]]) <= _PREFILL_TOKENS
            ):
                end += 1
            chunk = ordered[start:end]
            logits.append(self._read_chunk(first + start, chunk, [known[prompt] for prompt in chunk]))
            start = end
        return ordered, torch.cat(logits)

    def _read_chunk(self, first: int, prompts: Sequence[Ids], known: Sequence[int]) -> torch.Tensor:
        """One forward pass over the unknown ends of prompts, aligned at their last tokens."""
        new = [len(prompt) - start for prompt, start in zip(prompts, known, strict=True)]
        width = max(new)
        self.stats.prefilled_tokens += sum(new)
        device = self.model.device
        ids = torch.tensor(
            [(0,) * (width - n) + prompt[len(prompt) - n :] for prompt, n in zip(prompts, new, strict=True)]
        )
        places = torch.tensor([len(prompt) - width for prompt in prompts])[:, None] + torch.arange(width)
        scratch = self._kv.states.shape[4] - 1  # padding is written where nothing is read
        columns = torch.where(places < torch.tensor(known)[:, None], scratch, places)
        return self._forward(
            first, ids.to(device), places.clamp(min=0).to(device), columns.to(device), max(map(len, prompts))
        )

    def _forward(
        self, first: int, ids: torch.Tensor, positions: torch.Tensor, columns: torch.Tensor, seen: int
    ) -> torch.Tensor:
        """Logits after the last of ``ids[rows, tokens]``, for rows in the slots from ``first`` on."""
        self._kv.aim(slice(first, first + len(ids)), columns, seen)
        hidden = torch.arange(seen, device=ids.device) > positions[:, None, :, None]
        mask = torch.zeros(hidden.shape, dtype=self.model.dtype, device=ids.device).masked_fill_(hidden, -math.inf)
        self.stats.forwards += 1
        output = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._kv,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _extend(self, first: int, logits: torch.Tensor) -> None:
        """Sample a token for every row from slot ``first`` on; those that are finished leave."""
        rows = self.rows[first:]
        sampling = rows[0].sampling
        noise = [row.noise[len(row.ids)] for row in rows]
        sampled = sample(logits, noise, sampling.temperature, sampling.top_logprobs)
        stops = self._stops_of(sampling.stop)
        done: list[tuple[int, Finish]] = []
        for slot, (row, token, logprob, top) in enumerate(zip(rows, *sampled, strict=True), first):
            row.ids.append(token)
            row.logprobs.append(logprob)
            row.top.append(top)
            if reason := stops.finish(row):
                done.append((slot, reason))
        self.stats.generated_tokens += len(rows)
        for slot, reason in reversed(done):
            self._finish(slot, reason)

    def _finish(self, slot: int, reason: Finish) -> None:
        row = self.rows[slot]
        known = (*row.request.prompt, *row.ids[:-1])
        if self._cache.match(known)[0] < len(known):
            self._cache.insert(known, self._kv.read(slot, len(known)))
        top = tuple(row.top) if row.sampling.top_logprobs else ()
        self._leave(slot)
        row.finished(Completion(tuple(row.ids), tuple(row.logprobs), reason, top, self.version))

    def _leave(self, slot: int) -> None:
        """Free a slot; the last row moves into it."""
        last = self.rows.pop()
        if slot < len(self.rows):
            self._kv.copy(len(self.rows), slot, last.cached)
            self.rows[slot] = last

    def _stops_of(self, stop: tuple[str, ...]) -> Stops:
        if stop not in self._stops:
            self._texts = self._texts or self.codec.token_texts()
            self._stops[stop] = Stops(self.codec, stop, self._texts)
        return self._stops[stop]
