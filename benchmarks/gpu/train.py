"""SmolLM2-135M on real multi-hop questions, HotpotQA's and 2WikiMultiHopQA's together: ``at2po`` and ``grpo``.

The model is warm-started on scripted episodes first. ``at2po`` trains for its share of the time, ``grpo`` until it has
generated as many tokens. Exact match before and after is greedy, on the same questions, with 95 % intervals of the
paired differences. Model and questions are those that the bundle brought to ``gpu/``.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu.machine import arguments_of

ROOT = Path(__file__).resolve().parents[2]
BROUGHT = ROOT / "gpu"
CONFIGS = ROOT / "examples" / "configs"
TINY = ("train.steps=1", "rollout.questions=2", "eval.questions=4", "env.kwargs.world.preset=small")
REAL = (
    "policy.dtype=float32",
    "update.precision=bfloat16",
    "update.max_tokens=16384",
    "update.mini_batch=16",
    "rollout.questions=32",
    "train.steps=1000",
    "eval.questions=400",
    "deterministic=false",
)


def main() -> int:
    arguments = arguments_of(__doc__)
    if not arguments.tiny and not ((BROUGHT / "model").is_dir() and (BROUGHT / "data").is_dir()):
        print(f"left out: {BROUGHT} has no model and data, which --bundle brings")
        return 0
    from at2po_agent.intervals import paired_share_interval
    from at2po_agent.method.algorithms import AlgorithmConfig
    from at2po_agent.training.config import load_config
    from at2po_agent.training.trainer import train
    from at2po_agent.warmstart import run as warmstart

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.tiny:
            config = load_config("quickstart", TINY)
        else:
            os.environ["AT2PO_DATA"] = str(BROUGHT / "data")
            start = Path(folder, "warm-start")
            overrides = (f"output={start}", f"model.path={BROUGHT / 'model'}")
            warmstart.run(CONFIGS / "hotpotqa_smollm2_warmstart.yaml", overrides)
            config = load_config(CONFIGS / "hotpotqa_smollm2_train.yaml", (f"policy.path={start}", *REAL))
        rest = arguments.seconds - (time.monotonic() - began)
        tokens: int | None = None
        for name, expansion in (("at2po", {}), ("grpo", {"n": 16})):
            chosen = replace(
                config,
                name=name,
                run_dir=str(Path(folder, name)),
                algorithm=AlgorithmConfig(name=name, expansion=dict(expansion)),
                # Evaluations and loading are not counted in max_seconds.
                train=replace(config.train, max_seconds=rest / (3 if tokens is None else 2.2), max_tokens=tokens),
            )
            result = train(chosen)
            tokens = result.generated_tokens
            assert result.before and result.after
            gain = paired_share_interval(result.before.values, result.after.values)
            before, after = (sum(scores.values) / len(scores.values) for scores in (result.before, result.after))
            print(
                f"{name}: {result.steps} steps, {tokens:,} generated tokens, {result.seconds:.0f} s; "
                f"EM {before:.1%} -> {after:.1%} on {len(result.after.values)} questions, "
                f"{100 * gain.mean:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
