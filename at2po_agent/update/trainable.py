"""Refuse models that packed training is not right for, from their configuration alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from at2po_agent.policy.architecture import in_one_line, outline, partial_attention, refuse_unusable
from at2po_agent.policy.base import PolicyError


def refuse_untrainable(config: PreTrainedConfig) -> None:
    """Refuse a model that packed training would make silently wrong; weights are not needed.

    Raises:
        PolicyError: ``config`` is of a model that cannot be run, has layers without full attention, or changes its
            logits after the output layer.
    """
    name = f"a {config.model_type} model"
    refuse_unusable(config)
    refuse_partial_attention(config, name)
    model = outline(config, torch.float32)
    try:
        whole = _output_layer_is_the_whole_way(model)
    except NotImplementedError:
        return  # a step that needs numbers, as JetMoE's; prepare_model looks again when the weights are there
    except Exception as error:
        raise PolicyError(f"{name} of these sizes cannot be run: {in_one_line(error)}") from error
    if not whole:
        raise scaled_logits(name)


def refuse_partial_attention(config: PreTrainedConfig, name: str) -> None:
    """Refuse a model with a sliding window or other layers that do not attend to every token before.

    Raises:
        PolicyError: ``config`` is of one.
    """
    if kinds := partial_attention(config):
        raise PolicyError(
            f"{name} has layers without full attention ({', '.join(kinds)}), which attention along a tree cannot "
            "express: choose a model with full attention"
        )


def scaled_logits(name: str) -> PolicyError:
    """The refusal of a model whose output layer is not the whole way from hidden state to logits."""
    return PolicyError(
        f"{name} scales or caps its logits after the output layer, which packed training does not do: choose a model "
        "without that"
    )


class _Recorder(nn.Module):
    """An output layer that notes what it is given, and gives what it was made with."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.given = logits, torch.empty(0)
        self.weight = nn.Parameter(torch.empty(0))

    def forward(self, hidden: Tensor) -> Tensor:
        self.given = hidden
        return self.logits


def _output_layer_is_the_whole_way(model: PreTrainedModel) -> bool:
    """Whether the last hidden states enter the output layer as they are, and logits leave it so.

    Args:
        model: on the meta device, whose last hidden states and logits real numbers replace here.
    """
    # Of a size that a cap changes as well as a factor.
    hidden = torch.linspace(-40, 40, 4 * model.config.hidden_size).reshape(1, 4, -1)
    recorder = _Recorder(torch.linspace(-40, 40, 32).reshape(1, 4, 8))

    def replace(module: nn.Module, arguments: Any, output: Any) -> Any:
        output.last_hidden_state = hidden
        return output

    model.set_output_embeddings(recorder)
    model.base_model.register_forward_hook(replace)
    ids = torch.zeros(1, 4, dtype=torch.long, device="meta")
    # A mask of four dimensions is passed on as it is; one that transformers made would ask for numbers.
    mask = torch.ones(1, 1, 4, 4, device="meta")
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, position_ids=ids, use_cache=False).logits
    # Where the inner model was not called as a whole, as OPT's, what entered has no numbers.
    entered = recorder.given.is_meta or torch.equal(recorder.given, hidden)
    return entered and torch.equal(logits, recorder.logits)
