"""A model's architecture, from its ``config.json`` alone: read, outlined without weights, refused where it cannot run.

transformers checks little of a configuration, and fails on it in a hundred ways; every one of them is one error here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from at2po_agent.policy.base import CausalLM, PolicyError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
# By transformers' model types, that of a model which reads in both directions unless its is_decoder says otherwise
# (BERT and its kin have a masked language model too, which decoders have not; this one has none).
_ENCODERS = ("bert-generation",)


class Heads(NamedTuple):
    """The heads of a model's attention layers."""

    queries: int
    keys: int  # fewer than queries where several share one (grouped heads)
    size: int

    @classmethod
    def of(cls, config: PreTrainedConfig) -> Heads:
        """Those of a configuration; transformers leaves out what follows from the rest."""
        queries = int(config.num_attention_heads)
        size = getattr(config, "head_dim", None) or config.hidden_size // queries
        return cls(queries, int(getattr(config, "num_key_value_heads", None) or queries), int(size))


def read_config(folder: Path) -> PreTrainedConfig:
    """Read the configuration of the model in ``folder``; its weights are not looked at.

    Raises:
        PolicyError: there is no usable ``config.json``, or it is of a model that no command can run.
    """
    from transformers import AutoConfig

    file = folder / "config.json"
    if not file.is_file():
        raise PolicyError(f"no model in {folder}: expected config.json, weights and a tokenizer")
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        refuse_unusable(config)
    except PolicyError as error:
        raise PolicyError(f"{file}: {error}") from None
    except Exception as error:
        raise PolicyError(f"{file} cannot be used: {in_one_line(error)}") from error
    return config


def refuse_unusable(config: PreTrainedConfig) -> None:
    """Refuse a model that does not write from left to right, or whose layers the local engine does not have.

    Raises:
        PolicyError: ``config`` is of one, or a size in it is none.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    kind, other = config.model_type, "choose a causal language model"
    if config.is_encoder_decoder:
        raise PolicyError(f"a {kind} model has an encoder and a decoder: {other}")
    reads_both_ways = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind in _ENCODERS
    if reads_both_ways and not getattr(config, "is_decoder", False):
        raise PolicyError(f"a {kind} model is an encoder, which reads in both directions and writes nothing: {other}")
    if config.get_text_config() is not config:
        raise PolicyError(f"a {kind} model has other parts besides its language model: choose a text-only model")
    for name in _SIZES:
        size = getattr(config, name, None)
        if not isinstance(size, int) or size < 1:
            raise PolicyError(f"a {kind} model's {name} is {size}: a whole number from 1 is needed")
    if others := [layers for layers in partial_attention(config) if layers != "sliding_attention"]:
        raise PolicyError(f"a {kind} model has layers with {', '.join(others)}, which the local engine does not have")


def positions(model: CausalLM) -> int:
    """Tokens that a prompt and its turn may have together; within its window, sliding attention is full attention."""
    config = model.config
    found = int(config.max_position_embeddings)
    return min(found, int(config.sliding_window)) if "sliding_attention" in partial_attention(config) else found


def partial_attention(config: PreTrainedConfig) -> list[str]:
    """The kinds of a model's layers without full attention, as transformers names them; none for most models."""
    kinds = {kind for kind in getattr(config, "layer_types", None) or () if kind != "full_attention"}
    if not kinds and getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        # Mistral and Phi-3 name no kinds: every layer has the window.
        kinds = {"sliding_attention"}
    return sorted(kinds)


def outline(config: PreTrainedConfig, dtype: torch.dtype, layers: int | None = None) -> PreTrainedModel:
    """The model of ``config`` on the meta device: every shape and no data; with its first ``layers`` layers only.

    Raises:
        PolicyError: it is no causal language model, has no ``sdpa`` attention, or its sizes contradict each other.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        whole = dict(config.to_dict(), num_hidden_layers=config.num_hidden_layers)
        if layers is not None:
            whole |= {"num_hidden_layers": layers, "layer_types": None}
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(
                type(config).from_dict(whole), dtype=dtype, attn_implementation="sdpa", trust_remote_code=False
            )
    except Exception as error:
        raise PolicyError(f"a {config.model_type} model cannot be used: {in_one_line(error)}") from error


def in_one_line(error: Exception) -> str:
    """A library's error message in one line; the original may be a page, or a bare key."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, OSError | ValueError) and text else f"{type(error).__name__}: {text}"
