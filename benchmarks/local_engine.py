"""The local engine beside transformers' own ``generate`` and its continuous batching: the same work, in one run.

    python -m benchmarks.local_engine [--repeats 5] [--threads 2]

Ragged are 32 prompts of 20 to 100 tokens whose turns have 4 to 64 tokens, log-normal with a median of 15:
``generate`` pads them and goes on until the longest has ended. A step is one more token on every row, at prompts of
60 tokens, without the prefill (the difference of two lengths). An episode is three turns of 15 tokens with results of
22 between them, 32 prompts of 60 tokens with 8 rows each or 256 different ones: ``generate`` reads every prompt in
full at every turn, the engine only what is new. ``generate_batch`` (continuous batching over paged states, with room
for all rows) takes one number of new tokens for all of them, so it too goes on until the longest has ended. Ends of
sequence never come, so all ways do equal work. Times are the best of the repeats, since other programs only make them
longer; with one thread they are processor time, which other programs hardly touch.

Prefilled tokens are counted, not timed: those that the engine reads while the MicroWiki policy's trees of (10, 6, 2)
grow, beside the trees' own prompts and results, each once.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import (
    ContinuousBatchingConfig,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from at2po_agent.environments import make_env
from at2po_agent.method.expansion import EntropyGuided
from at2po_agent.policy.base import Request, Sampling
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.loading import load_policy, resolve_policy
from at2po_agent.policy.local.policy import LocalPolicy
from at2po_agent.rollouts.batch import rollout
from at2po_agent.rollouts.grow import Actor

VOCAB = 600
PROMPT, ACTION, RESULT, TURNS = 60, 15, 22, 3
RESULTS = Path(__file__).parent / "results" / "local_engine.txt"

Prompts = Sequence[tuple[int, ...]]
Way = Callable[[Prompts, Sequence[int]], list[tuple[int, ...]]]


def make_model() -> Any:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    return Qwen3ForCausalLM(config).eval()


def make_codec() -> Codec:
    """A tokenizer of the model's size whose end of sequence lies outside the model's vocabulary."""
    words = {f"w{i}": i for i in range(VOCAB)}
    backend = Tokenizer(models.WordLevel(words, unk_token="w0"))
    return Codec(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="w0", eos_token="<end>"))


def random_prompts(rows: int, different: int, length: int, seed: int = 0) -> list[tuple[int, ...]]:
    ids = np.random.default_rng(seed).integers(0, VOCAB, (different, length)).tolist()
    return [tuple(ids[i % different]) for i in range(rows)]


def engine(policy: LocalPolicy) -> Way:
    def generate(prompts: Prompts, new: Sequence[int]) -> list[tuple[int, ...]]:
        requests = [
            Request(prompt, n, (i, len(prompt))) for i, (prompt, n) in enumerate(zip(prompts, new, strict=True))
        ]
        found = [c.ids for c in asyncio.run(policy.generate(requests, Sampling(stop=("</search>",))))]
        assert list(map(len, found)) == list(new), "both ways must do equal work"
        return found

    return generate


def transformers_generate(model: Any) -> Way:
    def generate(prompts: Prompts, new: Sequence[int]) -> list[tuple[int, ...]]:
        longest = max(map(len, prompts))
        ids = torch.tensor([(0,) * (longest - len(prompt)) + prompt for prompt in prompts])
        real = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.no_grad():
            output = model.generate(
                ids,
                attention_mask=real,
                do_sample=True,
                top_k=0,
                max_new_tokens=max(new),
                pad_token_id=0,
                eos_token_id=None,
            )
        return [tuple(row[:n]) for row, n in zip(output[:, longest:].tolist(), new, strict=True)]

    return generate


def continuous_batching(model: Any) -> Way:
    def generate(prompts: Prompts, new: Sequence[int]) -> list[tuple[int, ...]]:
        page, longest = 32, max(map(len, prompts)) + max(new)
        room = {"page_size": page, "num_blocks": len(prompts) * (longest // page + 2), "max_batch_tokens": 2048}
        found = model.generate_batch(
            [list(prompt) for prompt in prompts],
            generation_config=GenerationConfig(
                do_sample=True, top_k=0, max_new_tokens=max(new), pad_token_id=0, eos_token_id=-1
            ),
            continuous_batching_config=ContinuousBatchingConfig(**room),
            warmup=False,
        )
        turns = [found[name].generated_tokens for name in sorted(found, key=lambda name: int(name.rsplit("_", 1)[1]))]
        assert [len(turn) for turn in turns] == [max(new)] * len(prompts), "it must do the whole work"
        return [tuple(turn[:n]) for turn, n in zip(turns, new, strict=True)]

    return generate


def seconds(run: Callable[[], object], before: Callable[[], object]) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    before()
    start = clock()
    run()
    return clock() - start


def step_ms(rows: int, way: Way, before: Callable[[], object]) -> float:
    prompts = random_prompts(rows, min(rows, 32), PROMPT)
    short = seconds(lambda: way(prompts, [2] * rows), before)
    long = seconds(lambda: way(prompts, [34] * rows), before)
    return (long - short) / 32 * 1e3


def ragged_s(way: Way, before: Callable[[], object]) -> float:
    rng = np.random.default_rng(0)
    prompts = [tuple(rng.integers(0, VOCAB, length).tolist()) for length in rng.integers(20, 101, 32)]
    new = rng.lognormal(np.log(15), 0.8, 32).clip(4, 64).astype(int).tolist()
    return seconds(lambda: way(prompts, new), before)


def prefilled() -> str:
    model, codec = load_policy(resolve_policy("builtin:microwiki"))
    env = make_env("AT2PO-MicroWiki-v0", "train", {"k": 1, "dialect": "bare", "max_searches": 4})
    policy = LocalPolicy(model, codec)
    ids = env.tasks[:32]
    grown = asyncio.run(rollout(env, ids, Actor(policy, codec), EntropyGuided(10, 6, 2)))
    read, unique = policy.stats.prefilled_tokens, sum(len(n.observation) for tree in grown.trees for n in tree.nodes)
    asked = policy.stats.prompt_tokens
    policy.close()
    return f"{len(ids)} trees: {read:,} tokens read, {unique:,} unique: {read / unique:.2f}x; {asked:,} in all prompts"


def episode_s(different: int, way: Way, before: Callable[[], object]) -> float:
    def run() -> None:
        prompts = random_prompts(256, different, PROMPT)
        for turn in range(TURNS):
            results = random_prompts(256, 256, RESULT, seed=turn + 1)
            sampled = way(prompts, [ACTION] * len(prompts))
            prompts = [(*p, *a, *r) for p, a, r in zip(prompts, sampled, results, strict=True)]

    return seconds(run, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = make_model()
    policy = LocalPolicy(model, make_codec())
    ways: dict[str, tuple[Way, Callable[[], object]]] = {
        "engine": (engine(policy), policy.clear_cache),
        "generate": (transformers_generate(model), lambda: None),
        "generate_batch": (continuous_batching(model), lambda: None),
    }
    lines = [
        f"torch {torch.__version__}, {arguments.threads} threads, {model.num_parameters():,} parameters, "
        f"best of {arguments.repeats}, {'processor' if arguments.threads == 1 else 'wall'} time",
        f"{'':34}{'engine':>10}{'generate':>10}{'ratio':>8}{'generate_batch':>16}{'ratio':>8}",
    ]

    def measure(name: str, one: Callable[[Way, Callable[[], object]], float], digits: int) -> None:
        runs = [[one(*way) for way in ways.values()] for _ in range(arguments.repeats)]  # in turns: equal disturbance
        ours, padded, paged = (min(column) for column in zip(*runs, strict=True))
        lines.append(
            f"{name:34}{ours:>10.{digits}f}{padded:>10.{digits}f}{padded / ours:>7.2f}x"
            f"{paged:>16.{digits}f}{paged / ours:>7.2f}x"
        )
        print(lines[-1], flush=True)

    for rows in (1, 32, 256):
        measure(f"ms a step, {rows} rows", partial(step_ms, rows), 2)
    measure("s, 32 ragged sequences", ragged_s, 3)
    for different in (32, 256):
        measure(f"s an episode, {different} prompts", partial(episode_s, different), 3)
    policy.close()
    lines.append(prefilled())
    text = "\n".join(lines)
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
