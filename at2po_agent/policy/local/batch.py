"""``Batch``: the sequences that run together; new ones join and finished ones leave between any two tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from at2po_agent.policy.base import CausalLM, Completion, Finish, Request, Sampling, Stats
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.local.captured import Capture, CapturedSteps, Tokens, captured_steps
from at2po_agent.policy.local.forward import Pass, forward_of
from at2po_agent.policy.local.kv import KVSlots
from at2po_agent.policy.local.prefix_cache import PrefixCache
from at2po_agent.policy.local.sampler import Drawn, draw, uniforms
from at2po_agent.policy.local.stops import Stops
from at2po_agent.policy.prefixes import Ids, common_prefix

PREFILL_TOKENS = 2048  # of one forward pass, padding included: few enough to pad little, and to stay in the cache
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
    def known(self) -> Ids:
        """The tokens that have key/value states."""
        return (*self.request.prompt, *self.ids[:-1])

    @property
    def cached(self) -> int:
        """Their number."""
        return len(self.request.prompt) + max(0, len(self.ids) - 1)


class Batch:
    """Runs a model over rows; those with equal prompts that sampled equal tokens share a slot. Not thread-safe.

    Args:
        model: a transformers causal LM with full attention and ``sdpa``.
        codec: its tokenizer.
        cache_bytes: bound of the prefix cache.
        prefill_tokens: of one forward pass that reads prompts, padding included; a longer prompt is read alone.
        capture: how decode steps are captured where the forward is written out; None: they are not.
    """

    def __init__(
        self,
        model: CausalLM,
        codec: Codec,
        cache_bytes: int,
        prefill_tokens: int = PREFILL_TOKENS,
        capture: Capture | None = None,
    ) -> None:
        self.model, self.codec = model, codec
        self._prefill_tokens, self._capture = prefill_tokens, capture
        self.stats = Stats()
        self.version = 0
        self._slots: list[list[Row]] = []  # what they sample next decides who stays together
        self._forward = forward_of(model)
        self._steps = captured_steps(model, self._forward, capture)
        self._cache = PrefixCache(cache_bytes)
        self._kv = KVSlots(model.config, model.dtype, model.device)
        self._stops: dict[tuple[str, ...], Stops] = {}
        self._texts: list[str] = []

    @property
    def rows(self) -> list[Row]:
        """The rows that run."""
        return [row for rows in self._slots for row in rows]

    def clear_cache(self) -> None:
        """Forget the states of earlier sequences, and look up the model's weights again."""
        self._cache.clear()
        forward = forward_of(self.model)
        if self._steps is None or not self._steps.are_of(self.model, forward):
            self._forward, self._steps = forward, captured_steps(self.model, forward, self._capture)

    def reset(self) -> None:
        """Drop every row and everything that was computed, after an error."""
        self._slots.clear()
        self._cache.clear()
        self._kv = KVSlots(self.model.config, self.model.dtype, self.model.device)

    def drop_cancelled(self) -> None:
        """Take out the rows whose callers have gone."""
        for slot in reversed(range(len(self._slots))):
            self._slots[slot] = [row for row in self._slots[slot] if not row.cancelled()]
            if not self._slots[slot]:
                self._leave(slot)

    @torch.no_grad()
    def admit(self, rows: Sequence[Row]) -> None:
        """Read the prompts of new rows, equal ones once, and sample their first tokens."""
        twins: dict[Ids, list[Row]] = {}
        for row in rows:
            twins.setdefault(row.request.prompt, []).append(row)
        slots, columns = len(self.rows) + len(rows), max(map(len, twins)) + 1
        self._kv.reserve(*(CapturedSteps.room(slots, columns) if self._steps else (slots, columns)))
        self._read_shared(list(twins))
        first = len(self._slots)
        prompts, logits = self._read(list(twins))
        self._slots += [twins[prompt] for prompt in prompts]
        self.stats.prompt_tokens += sum(len(row.request.prompt) for row in rows)
        self._extend(first, self._draw(logits, self._noise(first)))

    @torch.no_grad()
    def step(self) -> None:
        """Sample one more token on every row."""
        firsts = [rows[0] for rows in self._slots]
        tokens = Tokens([row.ids[-1] for row in firsts], [row.cached for row in firsts], self._noise(0))
        if self._steps is None:
            drawn = self._draw(self._read_tokens(tokens), tokens.noise)
        else:
            self.stats.forwards += 1
            drawn = self._steps(self._kv, tokens, self._sampling)
        self._extend(0, drawn)

    @property
    def _sampling(self) -> Sampling:
        """That of all running rows."""
        return self._slots[0][0].sampling

    def _read_tokens(self, tokens: Tokens) -> torch.Tensor:
        """Logits after one more token on every row, ``[R, vocabulary]``."""
        device, rows, seen = self.model.device, len(tokens.ids), max(tokens.positions) + 1
        ids, positions = (torch.tensor(states, device=device)[:, None] for states in (tokens.ids, tokens.positions))
        self._kv.reserve(rows, seen)
        return self._logits(Pass(slice(0, rows), ids, positions, None, torch.arange(rows, device=device), seen))

    def _read_shared(self, prompts: Sequence[Ids]) -> None:
        """Instructions that all prompts of a batch begin with are read once."""
        low, high = min(prompts), max(prompts)
        shared = low[: common_prefix(low, high)]
        if low != high and len(shared) >= _SHARED_TOKENS and self._cache.match(shared)[0] < len(shared):
            self._read([shared])
            self._cache.insert(shared, self._kv.read(len(self._slots), len(shared)))

    def _read(self, prompts: Sequence[Ids]) -> tuple[list[Ids], torch.Tensor]:
        """Fill the slots after the running rows with prompts; what the prefix cache has is not computed again.

        Returns:
            the prompts in the order of their slots, and the logits after each; ``[prompts, vocabulary]``.
        """
        cached = {prompt: self._cache.match(prompt) for prompt in prompts}
        # At least one token is computed, as the logits after it are needed.
        known = {prompt: min(length, len(prompt) - 1) for prompt, (length, _) in cached.items()}
        # Prompts with equally much left to read stand together, so that little is padding.
        ordered = sorted(prompts, key=lambda prompt: len(prompt) - known[prompt])
        first = len(self._slots)
        # Copy what is known into the slots after the running rows.
        for slot, prompt in enumerate(ordered, first):
            states = cached[prompt][1]
            if states is not None:
                self._kv.write(slot, states, known[prompt])
        logits, start = [], 0
        while start < len(ordered):
            # Take more prompts while all of them, padded to the longest, which is the last, stay within the bound.
            end = start + 1
            while end < len(ordered):
                width = len(ordered[end]) - known[ordered[end]]
                if (end + 1 - start) * width > self._prefill_tokens:
                    break
                end += 1
            # Read the rest of their tokens in one forward pass.
            chunk = ordered[start:end]
            logits.append(self._read_chunk(first + start, chunk, [known[prompt] for prompt in chunk]))
            start = end
        return ordered, torch.cat(logits)

    def _read_chunk(self, first: int, prompts: Sequence[Ids], known: Sequence[int]) -> torch.Tensor:
        """One forward pass over the unknown ends of prompts, aligned at their last tokens."""
        # Every row holds the last ``width`` tokens of its prompt. Where fewer are new, the first columns are padding,
        # which ``real`` leaves out.
        new = [len(prompt) - start for prompt, start in zip(prompts, known, strict=True)]
        width = max(new)
        self.stats.prefilled_tokens += sum(new)
        ids = torch.tensor(
            [(0,) * (width - n) + prompt[len(prompt) - n :] for prompt, n in zip(prompts, new, strict=True)]
        )
        ends = torch.tensor([len(prompt) for prompt in prompts])
        positions = (ends - width)[:, None] + torch.arange(width)
        read = positions >= torch.tensor(known)[:, None]
        device = self.model.device
        rows = Pass(
            slots=slice(first, first + len(prompts)),
            ids=ids.to(device),
            positions=positions.clamp(min=0).to(device),
            real=None if min(new) == width else read.flatten().nonzero()[:, 0].to(device),
            last=(torch.tensor(new).cumsum(0) - 1).to(device),
            seen=int(ends.max()),
        )
        return self._logits(rows)

    def _logits(self, rows: Pass) -> torch.Tensor:
        self.stats.forwards += 1
        return self._forward(self._kv, rows)

    def _noise(self, first: int) -> NDArray[np.float64]:
        """For the next token of every row from slot ``first`` on, ``[slots, rows of one]``."""
        slots = self._slots[first:]
        noise = np.zeros((len(slots), max(map(len, slots))))
        for place, rows in enumerate(slots):
            noise[place, : len(rows)] = [row.noise[len(row.ids)] for row in rows]
        return noise

    def _draw(self, logits: torch.Tensor, noise: NDArray[np.float64]) -> Drawn:
        sampling = self._sampling
        return draw(logits, torch.from_numpy(noise).to(logits.device), sampling.temperature, sampling.top_logprobs)

    def _extend(self, first: int, drawn: Drawn) -> None:
        """Give every row from slot ``first`` on the token that was drawn; those that are finished leave."""
        slots, sampling, sampled = self._slots[first:], self._sampling, drawn.read()
        finished: list[tuple[Row, Finish]] = []
        for slot, (rows, ids, logprobs, top) in enumerate(zip(slots, *sampled, strict=True), first):
            for row, token, logprob in zip(rows, ids, logprobs, strict=False):
                row.ids.append(token)
                row.logprobs.append(logprob)
                row.top.append(top)
            self.stats.generated_tokens += len(rows)
            finished += self._part(slot)
        for slot in reversed(range(first, first + len(slots))):
            if not self._slots[slot]:
                self._leave(slot)
        for row, reason in finished:
            most_likely = tuple(row.top) if sampling.top_logprobs else ()
            row.finished(Completion(tuple(row.ids), tuple(row.logprobs), reason, most_likely, self.version))

    def _part(self, slot: int) -> list[tuple[Row, Finish]]:
        """Rows of a slot that sampled different tokens part; those that are finished are returned, and in no slot."""
        finished: list[tuple[Row, Finish]] = []
        parts: dict[int, list[Row]] = {}
        for row in self._slots[slot]:
            parts.setdefault(row.ids[-1], []).append(row)
        stops = self._stops_of(self._slots[slot][0].sampling.stop)
        staying: list[list[Row]] = []
        for part in parts.values():
            reason = stops.finish(part[0].ids)
            left = []
            for row in part:
                why: Finish | None = reason or ("length" if len(row.ids) >= row.request.max_new_tokens else None)
                if why:
                    finished.append((row, why))
                else:
                    left.append(row)
            if left:
                staying.append(left)
        if finished:
            self._keep(slot, finished[0][0].known)
        self._slots[slot] = staying[0] if staying else []
        for part in staying[1:]:
            self._kv.copy(slot, len(self._slots), part[0].cached)
            self._slots.append(part)
        return finished

    def _keep(self, slot: int, known: Ids) -> None:
        """Store the states of a slot for later turns and siblings."""
        if self._cache.match(known)[0] < len(known):
            self._cache.insert(known, self._kv.read(slot, len(known)))

    def _leave(self, slot: int) -> None:
        """Free a slot; the last one's rows move into it."""
        last = self._slots.pop()
        if slot < len(self._slots):
            self._kv.copy(len(self._slots), slot, last[0].cached)
            self._slots[slot] = last

    def _stops_of(self, stop: tuple[str, ...]) -> Stops:
        if stop not in self._stops:
            self._texts = self._texts or self.codec.token_texts()
            self._stops[stop] = Stops(self.codec, stop, self._texts)
        return self._stops[stop]
