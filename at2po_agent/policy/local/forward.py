"""One pass through a model for rows that stand at different positions: logits after the last token of every row.

``LlamaForward`` writes out the layers that Llama, Qwen2 and Qwen3 have in common. A small model spends most of a
step on what transformers' modules do besides; and here padding is left out of the linear layers, the query heads of one
key head are read as further queries of it, and the last layer is computed only where logits are wanted.

It is for exactly those classes of transformers, of plain torch layers that nothing was put into or around. Any other
model (another architecture or a class of one's own, LoRA adapters, quantised layers, hooks, offloaded weights) goes
through its own modules (``ModuleForward``): slower, and never other than what the model itself computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from at2po_agent.policy.base import CausalLM
from at2po_agent.policy.local.kv import KVSlots

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaForCausalLM

_WRITTEN_OUT = tuple(f"transformers.models.{name}.modeling_{name}" for name in ("llama", "qwen2", "qwen3"))
_STATIC_ROPE = ("default", "linear", "llama3", "yarn")  # angles that depend on the position alone
PLAIN_SCORES = 2**22  # scores up to this many are faster in plain matrix products than in the fused kernel

Linear = tuple[Tensor, Tensor | None]  # weight and bias


class Pass(NamedTuple):
    """``R`` rows of up to ``T`` new tokens, aligned at their last ones."""

    slots: slice  # of the R rows
    ids: Tensor  # [R, T]
    positions: Tensor  # [R, T] tokens before it in its sequence; 0 for padding
    real: Tensor | None  # [N] which of the R·T are no padding; None: all
    last: Tensor  # [R] which of the N are the last of their rows
    seen: int  # columns that are read: the longest row

    def flat(self, states: Tensor) -> Tensor:
        """``[R, T]`` → ``[N]``, without padding."""
        found = states.flatten()
        return found if self.real is None else found.index_select(0, self.real)


class Forward(Protocol):
    """A way through a model."""

    def __call__(self, kv: KVSlots, rows: Pass) -> Tensor:
        """Logits after the last token of every row, ``[R, vocabulary]``; the states of all tokens are stored."""
        ...


def forward_of(model: CausalLM) -> Forward:
    """The fastest way through ``model``."""
    return LlamaForward(model) if _is_written_out(model) else ModuleForward(model)


def _is_written_out(model: CausalLM) -> bool:
    config = model.config
    if type(model).__module__ not in _WRITTEN_OUT or config.hidden_act != "silu":
        return False
    modules = dict(model.named_modules())
    linears = [module for name, module in modules.items() if name.endswith(("_proj", "lm_head"))]
    return (
        config.rope_parameters["rope_type"] in _STATIC_ROPE
        and all(type(one) is nn.Linear for one in linears)
        and type(model.get_input_embeddings()) is nn.Embedding
        and not any(map(_is_watched, modules.values()))
    )


def _is_watched(module: nn.Module) -> bool:
    """Whether calling it does more than its class says."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


class ModuleForward:
    """transformers' own modules, over padded rows."""

    def __init__(self, model: CausalLM) -> None:
        self._model = model

    def __call__(self, kv: KVSlots, rows: Pass) -> Tensor:
        """See ``Forward``."""
        _aim(kv, rows)
        output = self._model(
            input_ids=rows.ids,
            position_ids=rows.positions,
            attention_mask=_mask(rows, self._model.dtype),
            past_key_values=kv,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits


def _aim(kv: KVSlots, rows: Pass) -> None:
    slots = torch.arange(rows.slots.start, rows.slots.stop, device=rows.ids.device)
    kv.aim(rows.slots, rows.flat(slots[:, None].expand_as(rows.ids)), rows.flat(rows.positions), rows.real, rows.seen)


def _mask(rows: Pass, dtype: torch.dtype) -> Tensor:
    """``[R, 1, T, seen]``: 0 for the tokens up to a row's own, −inf for what stands after."""
    hidden = torch.arange(rows.seen, device=rows.ids.device) > rows.positions[:, None, :, None]
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -math.inf)


class _Layer(NamedTuple):
    """The weights of one layer."""

    attention_norm: Tensor
    query: Linear
    key: Linear
    value: Linear
    query_norm: Tensor | None
    key_norm: Tensor | None
    output: Linear
    feed_norm: Tensor
    gate: Linear
    up: Linear
    down: Linear

    @classmethod
    def of(cls, layer: LlamaDecoderLayer) -> _Layer:
        attention, feed = layer.self_attn, layer.mlp
        # Qwen3 alone has them.
        query_norm, key_norm = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
        return cls(
            attention_norm=layer.input_layernorm.weight,
            query=_linear(attention.q_proj),
            key=_linear(attention.k_proj),
            value=_linear(attention.v_proj),
            query_norm=None if query_norm is None else query_norm.weight,
            key_norm=None if key_norm is None else key_norm.weight,
            output=_linear(attention.o_proj),
            feed_norm=layer.post_attention_layernorm.weight,
            gate=_linear(feed.gate_proj),
            up=_linear(feed.up_proj),
            down=_linear(feed.down_proj),
        )


def _linear(module: nn.Linear) -> Linear:
    return module.weight, module.bias


class LlamaForward:
    """The layers of Llama, Qwen2 and Qwen3 on a transformers model's live weights; ``N`` tokens without padding.

    Args:
        model: of one of these architectures, which have modules of the same names.
        plain_scores: attention scores of a layer up to which plain matrix products are used in float32.
    """

    def __init__(self, model: LlamaForCausalLM, plain_scores: int = PLAIN_SCORES) -> None:
        self._plain_scores = plain_scores
        self._base, self._epsilon = model.model, model.config.rms_norm_eps
        self._embedding, self._head = model.get_input_embeddings().weight, _linear(model.get_output_embeddings())
        self._layers = [_Layer.of(layer) for layer in self._base.layers]
        self.angles: tuple[Tensor, Tensor] | None = None  # cosines and signed sines, [positions, 1, head_dim]

    def __call__(self, kv: KVSlots, rows: Pass) -> Tensor:
        """See ``Forward``."""
        _aim(kv, rows)
        dim = kv.states.shape[-1]
        x = functional.embedding(rows.flat(rows.ids), self._embedding)
        cos, sin = self._rotation(rows, x)
        attend = _Attention.of(rows, x.dtype, self._plain_scores)
        for i, layer in enumerate(self._layers):
            h = self._normed(x, layer.attention_norm)
            q, k, v = (
                functional.linear(h, *weights).view(len(h), -1, dim)
                for weights in (layer.query, layer.key, layer.value)
            )
            if layer.query_norm is not None:
                q, k = self._normed(q, layer.query_norm), self._normed(k, layer.key_norm)
            keys, values = kv.put(torch.addcmul(k * cos, k.roll(dim // 2, -1), sin), v, i)
            if i == len(self._layers) - 1 and rows.ids.shape[1] > 1:
                attend, q, x = attend.of_last(), q.index_select(0, rows.last), x.index_select(0, rows.last)
                cos, sin = cos.index_select(0, rows.last), sin.index_select(0, rows.last)
            q = torch.addcmul(q * cos, q.roll(dim // 2, -1), sin)
            x = x + functional.linear(attend(q, keys, values), *layer.output)
            h = self._normed(x, layer.feed_norm)
            gate = functional.silu(functional.linear(h, *layer.gate))
            x = x + functional.linear(gate.mul_(functional.linear(h, *layer.up)), *layer.down)
        return functional.linear(self._normed(x, self._base.norm.weight), *self._head)

    def _normed(self, x: Tensor, weight: Tensor | None) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:], weight, self._epsilon)

    def _rotation(self, rows: Pass, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines for ``x·cos + roll(x, head_dim/2)·sin``, ``[N, 1, head_dim]``."""
        if self.angles is None or len(self.angles[0]) < rows.seen:
            known = torch.arange(2 * rows.seen, device=x.device)
            cos, sin = self._base.rotary_emb(x, known[None])
            half = sin.shape[-1] // 2
            self.angles = cos[0, :, None], torch.cat((-sin[0, :, :half], sin[0, :, half:]), dim=-1)[:, None]
        positions = rows.flat(rows.positions)
        return self.angles[0].index_select(0, positions), self.angles[1].index_select(0, positions)


class _Padding(NamedTuple):
    """Between the ``N`` tokens of a pass and its ``R·T`` places, some of which are padding."""

    real: Tensor  # [N] the place of every token
    padded: Tensor  # [R·T] the token in every place; padding attends as the first token does

    @classmethod
    def of(cls, rows: Pass) -> _Padding | None:
        if rows.real is None:
            return None
        padded = rows.ids.new_zeros(rows.ids.numel())
        padded[rows.real] = torch.arange(len(rows.real), device=rows.ids.device)
        return cls(rows.real, padded)


@dataclass(frozen=True)
class _Attention:
    """Flat queries to the key/value states of their rows."""

    rows: int
    mask: Tensor  # [R, 1, T, seen]
    padding: _Padding | None
    plain_scores: int

    @classmethod
    def of(cls, rows: Pass, dtype: torch.dtype, plain_scores: int) -> _Attention:
        return cls(len(rows.ids), _mask(rows, dtype), _Padding.of(rows), plain_scores)

    def of_last(self) -> _Attention:
        """The same for the last token of every row alone."""
        return replace(self, mask=self.mask[:, :, -1:], padding=None)

    def __call__(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """``[N, heads, head_dim]`` and states of ``[R, key heads, seen, head_dim]`` → ``[N, heads · head_dim]``."""
        if self.padding is not None:
            query = query.index_select(0, self.padding.padded)
        _, heads, dim = query.shape
        key_heads, tokens = keys.shape[1], len(query) // self.rows
        shared = heads // key_heads  # queries that read one key head
        query = query.view(self.rows, tokens, key_heads, shared, dim).permute(0, 2, 3, 1, 4)
        query = query.reshape(self.rows, key_heads, shared * tokens, dim)
        mask = self.mask if tokens == 1 else self.mask.repeat(1, 1, shared, 1)
        output = self._attended(query, keys, values, mask).view(self.rows, key_heads, shared, tokens, dim)
        output = output.permute(0, 3, 1, 2, 4).reshape(-1, heads * dim)
        return output if self.padding is None else output.index_select(0, self.padding.real)

    def _attended(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        rows, heads, queries, dim = query.shape
        is_small = query.dtype == torch.float32 and rows * heads * queries * keys.shape[2] <= self.plain_scores
        # One token a row on a GPU: no fused kernel takes its mask, and what is left in bfloat16 is slow.
        if not is_small and not (query.is_cuda and mask.shape[2] == 1):
            return functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        scores = torch.matmul(query * dim**-0.5, keys.transpose(2, 3)).float().add_(mask)
        return torch.matmul(torch.softmax(scores, dim=-1).to(values.dtype), values)
