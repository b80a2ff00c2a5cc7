"""A model's sizes without its weights: read from ``config.json``, or from a small table of published models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from transformers import PreTrainedConfig, Qwen2Config, Qwen3Config

from at2po_agent.policy.architecture import Heads, read_config
from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.loading import resolve_policy

# The config.json of https://huggingface.co/Qwen/Qwen3-4B, Qwen3-8B and Qwen2.5-7B, as far as it decides shapes.
_QWEN3 = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "num_hidden_layers": 36}
_QWEN3 |= {"vocab_size": 151936, "max_position_embeddings": 40960}
PUBLISHED: Mapping[str, PreTrainedConfig] = MappingProxyType(
    {
        "qwen3-4b": Qwen3Config(hidden_size=2560, intermediate_size=9728, tie_word_embeddings=True, **_QWEN3),
        "qwen3-8b": Qwen3Config(hidden_size=4096, intermediate_size=12288, tie_word_embeddings=False, **_QWEN3),
        "qwen2.5-7b": Qwen2Config(
            hidden_size=3584,
            intermediate_size=18944,
            num_hidden_layers=28,
            num_attention_heads=28,
            num_key_value_heads=4,
            vocab_size=152064,
            max_position_embeddings=131072,
            tie_word_embeddings=False,
        ),
    }
)


def read_sizes(path: str) -> tuple[PreTrainedConfig, str]:
    """The transformers configuration of the policy ``path``, and where it was found; weights are not looked at.

    Raises:
        PolicyError: there is no such folder, its ``config.json`` cannot be used, and the model's sizes are not known.
    """
    try:
        folder = resolve_policy(path)
    except PolicyError as error:
        if found := PUBLISHED.get(Path(path).name.lower()):
            return found, "its published sizes"
        known = ", ".join(PUBLISHED)
        raise PolicyError(f"{error} (its config.json is enough here). Sizes are known without it of: {known}") from None
    return read_config(folder), str(folder / "config.json")


def kv_bytes_per_token(sizes: PreTrainedConfig, bytes_per_value: int) -> int:
    """Keys and values of one token in all layers: ``2 · layers · key-value heads · head_dim`` values."""
    heads = Heads.of(sizes)
    return int(2 * sizes.num_hidden_layers * heads.keys * heads.size * bytes_per_value)
