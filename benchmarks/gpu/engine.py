"""The local engine beside transformers' ``generate`` and ``generate_batch``, in one run: one more token on every row.

SmolLM2-135M's shape with random weights, prompts of 400 tokens, all different. A step is the difference between two
lengths, without the prefill. Ends of sequence never come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import (
    ContinuousBatchingConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from at2po_agent.policy.base import Request, Sampling
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.local.policy import LocalPolicy
from benchmarks.gpu.machine import arguments_of, device, wait

Prompts = Sequence[Sequence[int]]
Way = Callable[[Prompts, int], object]


def make_model(tiny: bool, where: torch.device, dtype: torch.dtype) -> LlamaForCausalLM:
    torch.manual_seed(0)
    layers, hidden, vocabulary = (2, 96, 512) if tiny else (30, 576, 49152)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=9 if not tiny else 6,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=None,
        bos_token_id=None,
    )
    config._attn_implementation = "sdpa"
    return LlamaForCausalLM(config).to(where, dtype).eval()


def make_codec(vocabulary: int) -> Codec:
    """A tokenizer of the model's size whose end of sequence lies outside of its vocabulary."""
    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocabulary)}, unk_token="w0"))
    return Codec(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="w0", eos_token="<end>"))


def engine(policy: LocalPolicy) -> Way:
    def run(prompts: Prompts, new: int) -> object:
        policy.clear_cache()
        requests = [Request(tuple(prompt), new, (i,)) for i, prompt in enumerate(prompts)]
        return asyncio.run(policy.generate(requests, Sampling()))

    return run


def generate(model: LlamaForCausalLM) -> Way:
    def run(prompts: Prompts, new: int) -> object:
        ids = torch.tensor(prompts, device=model.device)
        config = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=new, pad_token_id=0, eos_token_id=None)
        with torch.no_grad():
            return model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)

    return run


def generate_batch(model: LlamaForCausalLM) -> Way:
    """Continuous batching, with room for all rows."""

    def run(prompts: Prompts, new: int) -> object:
        config = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=new, pad_token_id=0, eos_token_id=-1)
        page = 32
        blocks = len(prompts) * (-(-(len(prompts[0]) + new) // page) + 1)
        batching = ContinuousBatchingConfig(page_size=page, num_blocks=blocks, max_batch_tokens=2048)
        found = model.generate_batch(
            [list(prompt) for prompt in prompts],
            generation_config=config,
            continuous_batching_config=batching,
            warmup=False,
            persistent_manager=False,
        )
        if len(found) != len(prompts) or any(len(one.generated_tokens) != new for one in found.values()):
            raise RuntimeError("generate_batch did not do the whole work")
        return found

    return run


def step_ms(way: Way, prompts: Prompts, where: torch.device, tokens: int) -> float:
    """Milliseconds of one more token on every row, the better one of two."""

    def seconds(new: int) -> float:
        wait(where)
        start = time.perf_counter()
        way(prompts, new)
        wait(where)
        return time.perf_counter() - start

    seconds(2 + tokens)  # warms up: kernels are compiled, graphs captured
    return 1e3 * min((seconds(2 + tokens) - seconds(2)) / tokens for _ in range(2))


def main() -> None:
    arguments, where = arguments_of(__doc__), device()
    end = time.monotonic() + arguments.seconds
    length, tokens, sizes = (20, 4, (4,)) if arguments.tiny else (400, 32, (32, 256, 512))
    print(f"{'dtype':10}{'rows':>5}  {'way':16}{'ms a step':>10}{'tokens/s':>10}")
    for dtype in (torch.bfloat16, torch.float32):
        model = make_model(arguments.tiny, where, dtype)
        vocabulary = model.config.vocab_size
        policy = LocalPolicy(model, make_codec(vocabulary), max_batch=max(sizes))
        ways = {"engine": engine(policy), "generate": generate(model), "generate_batch": generate_batch(model)}
        for rows in sizes:
            prompts = np.random.default_rng(0).integers(0, vocabulary, (rows, length)).tolist()
            for name, way in ways.items():
                kind = f"{str(dtype).removeprefix('torch.'):10}{rows:5}  {name:16}"
                if time.monotonic() > end:
                    print(f"{kind} left out: no time")
                    continue
                try:
                    milliseconds = step_ms(way, prompts, where, tokens)
                # A way of transformers that does not run here costs the others nothing.
                except Exception as error:
                    if name == "engine":
                        raise
                    print(f"{kind} failed: {type(error).__name__}: {str(error).splitlines()[0][:150]}")
                else:
                    print(f"{kind}{milliseconds:10.2f}{1e3 * rows / milliseconds:10,.0f}")
        policy.close()


if __name__ == "__main__":
    main()
