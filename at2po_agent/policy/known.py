"""What a model in this process says after a known prompt, for ``sglang_check``."""

from __future__ import annotations

from typing import Any

import torch

from at2po_agent.encoding import Codec
from at2po_agent.policy.sglang_check import KnownPrompt, known_ids

_TOKENS = 4  # few enough that all of them are among the server's most likely ones


@torch.no_grad()
def known_prompt(model: Any, codec: Codec) -> KnownPrompt:
    """The most likely tokens of a transformers model after the prompt that servers are asked about."""
    prompt = known_ids(codec)
    logits = model(input_ids=torch.tensor([prompt], device=model.device), use_cache=False).logits[0, -1]
    values, ids = torch.log_softmax(logits.float(), dim=-1).topk(_TOKENS)
    return KnownPrompt(prompt, tuple(zip(ids.tolist(), values.tolist(), strict=True)))
