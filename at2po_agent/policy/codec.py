"""``Codec``: rendered text to token ids and back, so that untrusted text can never become a control token.

Scaffold segments are encoded with every added token of the tokenizer; data segments (questions, passages) with none:
``split_special_tokens=True`` is not enough, since Qwen3's ``<think>`` and ``<tool_call>`` are added and not special.
Segments are encoded one by one, so scaffold ids are constants of a dialect and a tokenizer, whatever the data is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from at2po_agent.errors import AgentError
from at2po_env.chat import Message, tool_call, turn_text
from at2po_env.state import Text, ToolMessage, ToolPrompt, UserMessage, plain
from search_backend.outside import Unusable, count, read_file, read_json, well_formed

_ASSISTANT = "@the-assistant-turn@"  # stands for the turn that a message follows; no template writes it
_QUESTION = {"role": "user", "content": "-"}
_TURN = {"role": "assistant", "content": _ASSISTANT}
_CALL = {**_TURN, "tool_calls": [tool_call("@the-query@", 0)]}
_OPENED = re.compile(r"<think>\s*\Z")  # DeepSeek-R1, QwQ and Qwen3-Thinking write it before the model's turn
_MOST_RENDERED = 64  # conversations that a codec remembers as the chat template writes them
_MOST_ENCODED = 1024  # texts of each kind whose ids a codec remembers: siblings often search for the same
_TAIL = 16  # more ids than that tag and its line feeds have in any vocabulary


class EncodingError(AgentError, ValueError):
    """A tokenizer or its chat template cannot be used; the message says why."""


class Codec:
    """Encodes prompts and observations, decodes actions, with one tokenizer.

    Args:
        tokenizer: a transformers tokenizer with a ``tokenizers`` backend (a "fast" one).
        eos_ids: further end-of-sequence ids beside the tokenizer's own, e.g. of a model's generation config.

    Raises:
        EncodingError: the tokenizer has no backend, or no end-of-sequence token is known.
    """

    eos_ids: frozenset[int]  # any of them ends a turn
    vocab_size: int  # one more than the largest token id
    digest: str  # SHA-256 over tokenizer, chat template and end-of-sequence ids

    def __init__(self, tokenizer: Any, eos_ids: Iterable[int] = ()) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise EncodingError(
                f"{type(tokenizer).__name__} has no `tokenizers` backend: use the model's fast tokenizer"
            )
        self.tokenizer = tokenizer
        self._scaffold = type(backend).from_str(backend.to_str())
        self._scaffold.no_truncation()
        self._scaffold.no_padding()
        serialised = self._scaffold.to_str()
        state = json.loads(serialised)
        self._data = type(backend).from_str(json.dumps(state | {"added_tokens": []}))
        unknown = tokenizer.unk_token_id  # what no token spells has to be something, and means nothing
        self._control = frozenset(token["id"] for token in state["added_tokens"]) - {unknown}
        self.vocab_size = 1 + max(self._scaffold.get_vocab(with_added_tokens=True).values(), default=-1)
        own = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
        self.eos_ids = frozenset((*own, *eos_ids))
        if not self.eos_ids:
            raise EncodingError("the tokenizer has no end-of-sequence token: set `eos_token`, or pass eos_ids")
        self._bos = self._start_of_raw_prompts()
        self._rendered: dict[str, str] = {}
        self._encode_scaffold = lru_cache(_MOST_ENCODED)(self._encode_scaffold_anew)
        self._encode_data = lru_cache(_MOST_ENCODED)(self._encode_data_anew)
        self._opened = lru_cache(_MOST_ENCODED)(self._opened_anew)
        rest = json.dumps([tokenizer.chat_template, sorted(self.eos_ids)], sort_keys=True)
        self.digest = hashlib.sha256((serialised + rest).encode()).hexdigest()

    def __reduce__(self) -> tuple[type[Codec], tuple[Any, frozenset[int]]]:
        # What it remembers cannot be pickled, and is no part of what it is.
        return type(self), (self.tokenizer, self.eos_ids)

    @classmethod
    def from_dir(cls, path: str | Path) -> Codec:
        """Read the tokenizer of a Hugging Face model directory, with the end-of-sequence ids of its generation config.

        Raises:
            EncodingError: there is no tokenizer in ``path``.
        """
        from transformers import AutoTokenizer

        folder = Path(path)
        if not (folder / "tokenizer_config.json").is_file() and not (folder / "tokenizer.json").is_file():
            raise EncodingError(f"no tokenizer in {folder}: expected tokenizer.json and tokenizer_config.json")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return cls(tokenizer, _generation_eos(folder / "generation_config.json"))

    def prompt(self, text: Text) -> tuple[int, ...]:
        """Encode a first prompt: as the user message of the chat template, or raw with a line feed without one.

        Raises:
            EncodingError: the chat template drops, repeats or changes what stands in a message, or it has no tools and
                this is a ``ToolPrompt``.
        """
        if isinstance(text, ToolPrompt):
            self._check_tools(text.tools)
            return self._fill([], "user", text, tools=list(text.tools))
        if self.tokenizer.chat_template is None:
            return (*self._bos, *self.observation(text), *self._encode_scaffold("\n"))
        return self._fill([], "user", text)

    def _render(self, messages: list[Message], **options: Any) -> str:
        """The messages as the chat template writes them; data has placeholders, so few of them differ.

        Raises:
            EncodingError: there is no chat template, or it refuses them.
        """
        key = json.dumps([messages, options], sort_keys=True)
        if key not in self._rendered:
            if len(self._rendered) >= _MOST_RENDERED:
                self._rendered.clear()
            self._rendered[key] = self._render_anew(messages, **options)
        return self._rendered[key]

    def _render_anew(self, messages: list[Message], **options: Any) -> str:
        from jinja2 import TemplateError

        if self.tokenizer.chat_template is None:
            raise EncodingError("results as messages and tool calls need a tokenizer with a chat template")
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **options))
        except TemplateError as error:
            raise EncodingError(f"the chat template refuses this conversation: {error}") from error

    def _check_tools(self, tools: Sequence[Mapping[str, Any]]) -> None:
        """Raise unless the chat template shows ``tools``, and writes calls as the environment reads them."""
        shown = self._render([_QUESTION], tools=list(tools)) != self._render([_QUESTION])
        if not shown or turn_text(_CALL) not in self._render([_QUESTION, _CALL], tools=list(tools)):
            what = "writes tool calls in another form than <tool_call>{…}</tool_call>" if shown else "has no tools"
            raise EncodingError(f"this tokenizer's chat template {what}: use another dialect, such as tags or chat")

    def _fill(self, before: list[Message], role: str, text: Text, **options: Any) -> tuple[int, ...]:
        """Encode the message ``text`` of ``role`` as the chat template puts it behind what ``before`` ends with.

        Of ``before`` nothing is encoded that stands up to the end of the last message's own content and call.
        """
        holes = _placeholders(text)
        content = "".join(hole or segment.text for hole, segment in zip(holes, text, strict=True))
        rest = self._render([*before, {"role": role, "content": content}], add_generation_prompt=True, **options)
        if before:
            last = turn_text(before[-1])
            if rest.count(last) != 1:
                raise EncodingError("the chat template does not keep a message's text once and unchanged")
            rest = rest.partition(last)[2]
        ids: list[int] = []
        for hole, segment in zip(holes, text, strict=True):
            if hole is None:
                continue
            if rest.count(hole) != 1:
                raise EncodingError("the chat template does not keep a message's text once and unchanged")
            scaffold, rest = rest.split(hole)
            ids += self._encode_scaffold(scaffold)
            ids += self._encode_data(segment.text)
        return (*ids, *self._encode_scaffold(rest))

    def observation(self, text: Text) -> tuple[int, ...]:
        """Encode what follows an action: the segments alone, with no start token and no template.

        A ``UserMessage`` or ``ToolMessage`` comes with what the template puts between the assistant's text and the next
        one's: the end of the assistant's message, the user's or tool's, and the start of the next. So ids are only ever
        appended. An action that ended by itself keeps its own end-of-sequence token before that.

        Raises:
            EncodingError: such a message without a chat template, or one that changes what stands in a message.
        """
        if isinstance(text, UserMessage):
            return self._fill([_QUESTION, _TURN], "user", text)
        if isinstance(text, ToolMessage):
            return self._fill([_QUESTION, _CALL], "tool", text)
        ids: list[int] = []
        for segment in text:
            ids += self._encode_data(segment.text) if segment.data else self._encode_scaffold(segment.text)
        return tuple(ids)

    def decode_action(self, ids: Sequence[int]) -> str:
        """The text of one sampled turn; a final end-of-sequence token is left out, every other token is kept.

        Bytes that are no UTF-8 become U+FFFD, ids without a token nothing.
        """
        return self.decode(ids[:-1] if ids and ids[-1] in self.eos_ids else ids)

    def opened_thought(self, prompt: Sequence[int]) -> str:
        """The tag that ``prompt`` ends with where the chat template opens the thought of a turn itself; else nothing.

        Data cannot make one: ``rendering.neutralise`` leaves no tag in it.
        """
        return self._opened(tuple(prompt[-_TAIL:]))

    def _opened_anew(self, tail: tuple[int, ...]) -> str:
        found = _OPENED.search(self.decode(tail))
        return found[0] if found else ""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens included."""
        return str(self._scaffold.decode(list(ids), skip_special_tokens=False))

    def encode_with_spans(self, text: str) -> list[tuple[int, int, int]]:
        """Encode text as a system that keeps text would: ids, each with its characters ``[start, stop)``.

        Control tokens that ``text`` spells become control tokens, whoever wrote them.
        """
        found = self._scaffold.encode(text, add_special_tokens=False)
        return [(id, *span) for id, span in zip(found.ids, found.offsets, strict=True)]

    def token_texts(self) -> list[str]:
        """The text of every single token, by id; ``[vocab_size]``."""
        return list(self._scaffold.decode_batch([[i] for i in range(self.vocab_size)], skip_special_tokens=False))

    def _encode_scaffold_anew(self, text: str) -> tuple[int, ...]:
        return tuple(self._scaffold.encode(text, add_special_tokens=False).ids)

    def _encode_data_anew(self, text: str) -> tuple[int, ...]:
        """Encode untrusted text; control tokens that the plain vocabulary spells are spelled in characters instead."""
        text = well_formed(text)  # no tokenizer can encode surrogates
        ids = tuple(self._data.encode(text, add_special_tokens=False).ids)
        if self._control.isdisjoint(ids):
            return ids
        characters = (self._data.encode(character, add_special_tokens=False).ids for character in text)
        return tuple(i for piece in characters for i in piece if i not in self._control)

    def _start_of_raw_prompts(self) -> tuple[int, ...]:
        """The start token, where the tokenizer puts one before a text of its own accord."""
        start = self.tokenizer.bos_token_id
        return (int(start),) if start in self._scaffold.encode("", add_special_tokens=True).ids else ()


def _placeholders(text: Text) -> list[str | None]:
    """One string per data segment that occurs in no scaffold; templates only see these, never data."""
    scaffold = plain(tuple(segment for segment in text if not segment.data))
    mark = "DATA"
    while mark in scaffold:
        mark += "A"
    return [f"{mark}{i}{mark}" if segment.data else None for i, segment in enumerate(text)]


def _generation_eos(path: Path) -> tuple[int, ...]:
    if not path.is_file():
        return ()
    try:
        config = read_json(read_file(path))
        eos = config.get("eos_token_id") if isinstance(config, dict) else config
        given = eos if isinstance(eos, list) else [] if eos is None else [eos]
        return tuple(count(id_, "eos_token_id") for id_ in given)
    except (OSError, Unusable) as error:
        raise EncodingError(f"{path}: {error}; restore the model's own file") from error
