"""What an update takes in memory beside what ``at2po-agent plan`` traces without computing, in one run.

    python -m benchmarks.update_memory

Each way is measured twice, in processes of its own: once with glibc giving every freed block back at once, which is
what tensors take, and once as glibc does by itself, which keeps blocks for later.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from at2po_agent.method.objective import ATPO
from at2po_agent.planning.update_memory import Trained, activation_bytes, micro_batch, star
from at2po_agent.policy.lora import LoraConfig, add_lora
from at2po_agent.update.packing import Credited
from at2po_agent.update.schedule import UpdateConfig
from at2po_agent.update.updater import Updater
from benchmarks.packed_update import resident

PROMPT, LEAVES, TOKENS = 500, 8, 6000
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
_KEPT = Trained(SIZES, torch.float32, half=False, checkpointing=False, lora=None)
WAYS = {
    "layers kept": _KEPT,
    "layers computed again": replace(_KEPT, checkpointing=True),
    "forward in bfloat16": replace(_KEPT, half=True),
    "LoRA of rank 8": replace(_KEPT, lora=LoraConfig(rank=8, alpha=16.0)),
}
RESULTS = Path(__file__).parent / "results" / "update_memory.txt"
_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # larger blocks are mapped, and given back when they are freed


def traced(way: str) -> int:
    """Bytes of gradients and activations, from shapes alone."""
    trained = WAYS[way]
    gradients = sum(int(parameter.nbytes) for parameter in trained.outline().parameters() if parameter.requires_grad)
    return gradients + activation_bytes(trained, micro_batch([star(PROMPT, LEAVES, TOKENS)]))


def measured(way: str, give_back: bool = True) -> int:
    """The same from a real update in a fresh process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (_AT_ONCE if give_back else {})
    command = [sys.executable, "-c", f"from benchmarks.update_memory import measure; print(measure({way!r}))"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return int(done.stdout)


def measure(way: str) -> int:
    """Resident bytes above those before, at the peak of this process's second update."""
    trained = WAYS[way]
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_config(SIZES, attn_implementation="sdpa", trust_remote_code=False).eval()
    if trained.lora:
        add_lora(model, trained.lora, seed=0)
    config = UpdateConfig(
        max_tokens=TOKENS,
        gradient_checkpointing=trained.checkpointing,
        precision="bfloat16" if trained.half else "weights",
    )
    updater = Updater(model, ATPO(), config)

    def update(tokens: int) -> None:
        tree = star(PROMPT, LEAVES, tokens)
        updater.update([Credited(tree, [[1.0]] * len(tree.leaves))])

    update(PROMPT + 200)  # libraries are loaded, the optimiser has its moments
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident("VmRSS")
    update(TOKENS)
    return resident("VmHWM") - before


def main() -> None:
    lines = [
        f"torch {torch.__version__}, one CPU thread, {TOKENS:,} packed tokens, MiB of gradients and activations",
        f"{'':22} {'traced':>7} {'measured':>9} {'ratio':>6} {'with glibc':>11}",
    ]
    for way in WAYS:
        sizes = [size / 2**20 for size in (traced(way), measured(way), measured(way, give_back=False))]
        lines.append(f"{way:22} {sizes[0]:7.1f} {sizes[1]:9.1f} {sizes[1] / sizes[0]:6.3f} {sizes[2]:11.1f}")
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
