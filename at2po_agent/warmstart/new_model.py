"""A small language model from nothing: a byte-level BPE tokenizer and a fresh model of the Qwen3 architecture."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

TAGS = tuple(f"<{slash}{name}>" for name in ("search", "answer", "think", "result") for slash in ("", "/"))
END, PAD = "<|end|>", "<|pad|>"
_NAME = r" ?\p{Lu}\p{Ll}+"
_SYLLABLE = (  # of a name: each ends before a consonant with a vowel, or where the name does
    r"(?:\A ?\p{Lu}[^aeiou\W]*[aeiou]\p{Ll}*?|\G(?!\A)\p{Ll}+?)(?=[^aeiou\W][aeiou]|\z)"
)
_DIGITS = r" ?\d{1,2}"
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


@dataclass(frozen=True)
class TinyConfig:
    """A fresh model. About one million parameters as it stands."""

    vocab_size: int = 512  # bytes, merges, tags and specials together
    hidden_size: int = 128  # of a token's vector
    intermediate_size: int = 384  # of the feed-forward layers
    layers: int = 4  # of the transformer
    heads: int = 4  # of attention
    kv_heads: int = 2  # heads of keys and values
    head_dim: int = 32  # of one head's vector
    max_positions: int = 1024  # tokens of the longest context
    rope_theta: float = 10000.0  # base of the rotary position embedding


def tags_of(stop: Sequence[str]) -> tuple[str, ...]:
    """``TAGS``, and those of an environment whose turns end at the closing tags ``stop``."""
    own = (tag for end in stop if end.startswith("</") for tag in (end.replace("</", "<", 1), end))
    return tuple(dict.fromkeys((*TAGS, *own)))


def train_tokenizer(texts: Iterable[str], vocab_size: int, tags: Sequence[str] = TAGS) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of ``vocab_size`` tokens, deterministic in ``texts``; any text can be encoded.

    The ``tags`` are one token each, and not special: a model writes them as text. No token has more than
    two digits, or more than one syllable of a capitalised word: a year or a name that the model never saw splits like
    one that it did, and can be copied like it.

    Raises:
        ValueError: ``vocab_size`` has no room for the 256 bytes, the tags and the specials.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    least = 256 + len(tags) + 2
    if vocab_size < least:
        raise ValueError(f"vocab_size {vocab_size} is too small: bytes, tags and specials alone are {least}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in (_NAME, _SYLLABLE, _DIGITS)),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(tags),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[END, PAD],
        show_progress=False,
    )
    tag = re.compile("|".join(map(re.escape, tags)))
    tokenizer.train_from_iterator((part for text in texts for part in tag.split(text) if part), trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, chat_template=CHAT_TEMPLATE
    )


def new_model(config: TinyConfig, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A randomly initialised float32 model for ``tokenizer``; the same seed gives the same weights."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.kv_heads,
                head_dim=config.head_dim,
                max_position_embeddings=config.max_positions,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                dtype="float32",
            )
        )
