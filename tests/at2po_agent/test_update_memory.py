"""The traced memory of an update against the resident memory of a real one, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3Config

from at2po_agent.config import UpdateConfig
from at2po_agent.objective import ATPO
from at2po_agent.packing import Credited
from at2po_agent.policy.lora import add_lora
from at2po_agent.update import Updater
from at2po_agent.update_memory import Trained, activation_bytes, micro_batch, star

TOKENS = 6000
SIZES = Qwen3Config(
    vocab_size=8192,  # more than one block of logits
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    tie_word_embeddings=True,
    bos_token_id=None,
    eos_token_id=None,
)
LORA = {"rank": 8, "alpha": 16.0, "targets": ["all-linear"]}
PLAIN = Trained(SIZES, torch.float32, half=False, checkpointing=False, lora=None)
WAYS = {
    "kept": PLAIN,
    "computed again": replace(PLAIN, checkpointing=True),
    "bfloat16": replace(PLAIN, half=True),
    "adapters": replace(PLAIN, lora=LORA),
}


def resident(field: str) -> int:
    """Bytes of this process, as the kernel counts them."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def measure(way: str) -> int:
    """Bytes that a real update takes at its peak, besides weights and optimiser; gradients are in it."""
    from transformers import AutoModelForCausalLM

    trained = WAYS[way]
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_config(SIZES, attn_implementation="sdpa").eval()
    if trained.lora:
        add_lora(model, **trained.lora, seed=0)
    config = UpdateConfig(
        max_tokens=TOKENS,
        gradient_checkpointing=trained.checkpointing,
        precision="bfloat16" if trained.half else "weights",
    )
    updater = Updater(model, ATPO(), config)

    def update(tokens: int) -> None:
        tree = star(500, 8, tokens)
        updater.update([Credited(tree, [[1.0]] * len(tree.leaves))])

    update(700)  # libraries are loaded, the optimiser has its moments
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident("VmRSS")
    update(TOKENS)
    return resident("VmHWM") - before


SLOW = ("kept", "bfloat16", "adapters")


@pytest.mark.parametrize("way", [pytest.param(way, marks=pytest.mark.slow if way in SLOW else ()) for way in WAYS])
def test_an_update_takes_what_was_traced(way: str) -> None:
    """Within 10 %. Small blocks of memory too go back at once here; what glibc would keep for later is not traced."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", f"from {__name__} import measure; print(measure({way!r}))"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    trained = WAYS[way]
    model = trained.outline()
    gradients = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    traced = gradients + activation_bytes(trained, micro_batch([star(500, 8, TOKENS)]))
    assert int(done.stdout) == pytest.approx(traced, rel=0.1)


def test_layers_are_alike_so_two_of_them_tell_about_all() -> None:
    batch = micro_batch([star(100, 4, 600)])
    sizes = [activation_bytes(replace(PLAIN, sizes=_with_layers(n)), batch) for n in (2, 3, 6)]
    assert sizes[1] - sizes[0] == (sizes[2] - sizes[1]) / 3 > 0


def _with_layers(n: int) -> Any:
    return Qwen3Config.from_dict(SIZES.to_dict() | {"num_hidden_layers": n, "layer_types": None})


def test_a_star_has_the_tokens_that_were_asked_for() -> None:
    batch = micro_batch([star(500, 8, TOKENS)])
    assert abs(len(batch.ids) - TOKENS) <= 8
    assert int(batch.positions.max()) == 500 + (TOKENS - 500) // 8 - 1
