"""``warm-start``: make a policy that knows a task's format, by imitating a scripted teacher in the real environment.

The teacher plays episodes, the codec writes down exactly the ids that the policy would have seen and written, and the
model is fitted to them. The model is an existing directory, or a fresh tiny one with a tokenizer of its own.
"""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from omegaconf import MISSING

from at2po_agent import tasks
from at2po_agent.atomic_files import new_directory, write_text
from at2po_agent.config_files import Files
from at2po_agent.environments import EnvConfig, check_env_id, import_tasks, make_env
from at2po_agent.policy.architecture import positions
from at2po_agent.policy.base import Sampling
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.loading import Device, PolicyConfig, device_of, load_model, resolve_policy
from at2po_agent.rollouts.evaluate import Evaluation, evaluate
from at2po_agent.rollouts.grow import Actor, Limits
from at2po_agent.rollouts.outages import Outages
from at2po_agent.settings import ConfigError, at_least, load
from at2po_agent.warmstart.demonstrations import Scribe, play_all
from at2po_agent.warmstart.imitation import Demonstration, FitConfig, Progress, fit
from at2po_agent.warmstart.new_model import TinyConfig, new_model, tags_of, train_tokenizer
from at2po_env.tasks import Metric, TaskEnv, Teacher
from search_backend.components import ComponentError, Kind, configured, described

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


TEACHER = Kind("teacher", Teacher, {})


@dataclass(frozen=True)
class StartConfig:
    """The model to fit: an existing one, or a new tiny one."""

    path: str | None = None  # model directory or builtin:NAME; null: a new model, as below
    device: Device = "auto"  # auto: a GPU if there is one
    tiny: TinyConfig = field(default_factory=TinyConfig)
    text_env: dict[str, Any] = field(
        default_factory=dict
    )  # overrides env.kwargs for the texts that train the tokenizer
    text_episodes: int = at_least(4000, 1)  # episodes that give those texts


@dataclass(frozen=True)
class WarmEvalConfig:
    """Settings of the evaluation, on questions that the teacher never played."""

    split: str = "dev"  # which questions
    questions: int = at_least(500, 0)  # how many, from the first of the split; 0: no evaluation
    kwargs: dict[str, Any] = field(default_factory=dict)  # arguments that override env.kwargs
    temperatures: tuple[float, ...] = (0.0, 1.0)  # one evaluation at each; 0 is greedy


@dataclass(frozen=True)
class WarmStartConfig:
    """The root of a warm-start configuration."""

    output: str = MISSING  # model directory to write
    seed: int = at_least(0, 0)  # seed of the teacher, the new weights and the order of demonstrations
    threads: int = at_least(0, 0)  # threads of torch; 0: one per core
    env: EnvConfig = field(default_factory=EnvConfig)
    variants: tuple[dict[str, Any], ...] = ({},)  # each overrides env.kwargs; the episodes are divided among them
    teacher: dict[str, Any] = field(
        default_factory=dict
    )  # faults of the environment's teacher, or of the one that `name` gives
    model: StartConfig = field(default_factory=StartConfig)
    episodes: int = at_least(20000, 1)  # episodes that the teacher plays
    context_weight: float = at_least(
        0.3, 0
    )  # weight of the loss on text that the policy reads; its own text has weight 1
    fit: FitConfig = field(default_factory=FitConfig)
    eval: WarmEvalConfig = field(default_factory=WarmEvalConfig)


def load_warm_start(files: Files, overrides: Sequence[str] = ()) -> WarmStartConfig:
    """The defaults, then the YAML files in order, then ``key=value`` overrides; what they name exists.

    Raises:
        ConfigError: see ``settings.load``; or there is no such environment.
        PolicyError: there is no such model to start from.
    """
    config = load(WarmStartConfig, files, overrides)
    import_tasks(config.env.imports)
    check_env_id(config.env.id)
    if not config.variants:
        raise ConfigError("variants: there are none; leave it out, or give at least {}")
    if config.model.path is not None:
        resolve_policy(config.model.path)
    return config


def run(
    files: Files,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = print,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Make a policy as the YAML files and the ``key=value`` overrides say, and return its directory.

    Args:
        files: paths or names of packaged configurations, later ones over earlier ones.
        overrides: laid over them.
        say: told the results.
        progress: told how the work goes; default: ``say``.

    Raises:
        ConfigError: the configuration is wrong, or the output exists.
        PolicyError: there is no such model to start from.
    """
    files = [files] if isinstance(files, str | Path) else files or ()
    progress = progress or say
    config = load_warm_start(files, overrides)
    output = Path(config.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"output: {output} already exists; remove it or choose another folder")
    with closing(_env(config, config.env.split, config.variants[0])) as env:
        teacher = teacher_of(config, env)
    progress(f"loading {config.model.path or 'torch'} …")
    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
    command = ["at2po-agent", "warm-start", *(word for file in files for word in ("--cfg", str(file))), *overrides]
    with new_directory(output) as folder:
        record = {"command": shlex.join(command), **_make_policy(config, teacher, folder, say, progress)}
        write_text(folder / "warmstart.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    say(f"wrote {output}")
    return output


def teacher_of(config: WarmStartConfig, env: TaskEnv[Any]) -> Teacher:
    """The teacher that the configuration names, else the environment's own, with the faults that it is given.

    Raises:
        ConfigError: there is no such teacher, the environment has none, or the teacher no such setting or value.
    """
    if "name" not in config.teacher and env.teacher is None:
        raise ConfigError(
            f"env.id: {config.env.id} has no teacher to imitate: {type(env).__name__}.teacher is None; name one of "
            'your own, teacher: {name: "my_module:MyTeacher"}'
        )
    try:
        if "name" in config.teacher:
            return cast(Teacher, TEACHER.make(config.teacher, "teacher"))
        assert env.teacher is not None
        return cast(Teacher, configured(env.teacher, env.teacher.__name__, config.teacher, "teacher"))
    except ComponentError as error:
        raise ConfigError(str(error)) from error


def _make_policy(
    config: WarmStartConfig,
    teacher: Teacher,
    folder: Path,
    say: Callable[[str], None],
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Write model and tokenizer into ``folder`` and return the record of how they were made."""
    import torch
    import transformers

    began = perf_counter()
    transformers.utils.logging.disable_progress_bar()
    model, tokenizer = _start(config, teacher, progress)
    tokenizer.save_pretrained(folder)
    codec = Codec.from_dir(folder)
    demonstrations, taught = demonstrate(config, teacher, Scribe(codec, tokenizer.eos_token_id), progress)
    fitting = _ProgressLines(progress)
    fit(model, demonstrations, config.fit, config.seed, fitting)
    model.save_pretrained(folder)
    return {
        "seed": config.seed,
        "config": {**asdict(config), "teacher": {**config.teacher, **asdict(cast(Any, teacher))}},
        "teacher": taught,
        **described({"teacher": origin} if (origin := TEACHER.origin(config.teacher)) else {}),
        "fit": {"steps": fitting.last.steps, "tokens": fitting.last.tokens, "loss": round(fitting.last.loss, 4)},
        "evaluation": _judge(config, folder, say),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "seconds": round(perf_counter() - began),
    }


def _env(config: WarmStartConfig, split: str, over: Mapping[str, Any]) -> TaskEnv[Any]:
    import_tasks(config.env.imports)
    return make_env(config.env.id, split, {**config.env.arguments, **over})


def _start(
    config: WarmStartConfig, teacher: Teacher, say: Callable[[str], None]
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Model and tokenizer before the first step."""
    if config.model.path is not None:
        model, codec = load_model(PolicyConfig(config.model.path, device=config.model.device))
        return model, codec.tokenizer
    with closing(_env(config, config.env.split, config.model.text_env)) as env:
        # Faultless, which every teacher is by default.
        texts = list(_texts(env, type(teacher)(), config))
        tokenizer = train_tokenizer(texts, config.model.tiny.vocab_size, tags_of(env.stop))
    model = new_model(config.model.tiny, tokenizer, config.seed)
    say(f"fresh model of {model.num_parameters():,} parameters, {len(tokenizer)} tokens from {len(texts):,} texts")
    return model.to(device_of(config.model.device)), tokenizer


def _texts(env: TaskEnv[Any], teacher: Teacher, config: WarmStartConfig) -> Iterator[str]:
    """The texts of a teacher's episodes that are encoded piece by piece."""
    start = env.clone()
    for task_id, _ in play_all(env, teacher, config.model.text_episodes, (config.seed,)):
        start.begin(task_id)
        yield from (segment.text for segment in start.observation())
        for turn in env.transcript(env.snapshot()):
            yield turn.text
            yield from (segment.text for segment in turn.observation)


def demonstrate(
    config: WarmStartConfig, teacher: Teacher, scribe: Scribe, say: Callable[[str], None]
) -> tuple[list[Demonstration], dict[str, Any]]:
    """The teacher's episodes, and a record of what it taught.

    Args:
        config: ``episodes`` are shared out over ``variants``.
        teacher: plays them.
        scribe: writes them down.
        say: told when all are played.
    """
    began = perf_counter()
    demonstrations: list[Demonstration] = []
    scores: list[float] = []
    for number, variant in enumerate(config.variants):
        episodes = len(range(number, config.episodes, len(config.variants)))
        with closing(_env(config, config.env.split, variant)) as env:
            metric = env.metrics[0]
            for _, info in play_all(env, teacher, episodes, (config.seed, number)):
                scores.append(float(info[metric.name]))
                demonstrations.append(scribe.write_down(env, config.context_weight))
            taught = teacher.record(env)
    mean = float(np.mean(scores))
    seconds = perf_counter() - began
    say(f"{len(demonstrations):,} episodes in {seconds:.0f} s; the teacher's {metric} is {_shown(metric, mean)}")
    return demonstrations, {metric.name: round(mean, 4), **taught}


def _shown(metric: Metric, mean: float) -> str:
    return f"{mean:.1%}" if metric.share else f"{mean:.3g}"


class _ProgressLines:
    """Says how the fit goes, every ten seconds and at the end."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.began, self.said = say, perf_counter(), 0.0
        self.last = Progress(0, 0, float("nan"), 0)
        self.losses: list[float] = []

    def __call__(self, progress: Progress) -> None:
        self.last = progress
        self.losses.append(progress.loss)
        seconds = perf_counter() - self.began
        if seconds - self.said < 10 and progress.step < progress.steps:
            return
        left = seconds * (progress.steps - progress.step) / progress.step
        loss = float(np.mean(self.losses))
        rate = progress.tokens / seconds
        self.say(
            f"step {progress.step}/{progress.steps}  loss {loss:.3f}  {progress.tokens / 1e6:.2f} M tokens  "
            f"{rate:,.0f} tokens/s  {left:.0f} s left"
        )
        self.said, self.losses = seconds, []


def _judge(config: WarmStartConfig, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """The environment's first metric, of the policy in ``folder`` on tasks that the teacher never played."""
    if not config.eval.questions:
        return {}
    from at2po_agent.policy.local.policy import LocalPolicy

    policy = LocalPolicy(*load_model(PolicyConfig(str(folder), device=config.model.device)))
    limits = Limits(max_context_tokens=positions(policy.model))
    actor = Actor(policy, policy.codec, limits=limits, outages=Outages(say))
    with closing(_env(config, config.eval.split, config.eval.kwargs)) as env, closing(policy):
        ids, metric = env.tasks[: config.eval.questions], env.metrics[0]
        record: dict[str, Any] = {"questions": len(ids), "split": config.eval.split}
        for temperature in config.eval.temperatures:
            evaluation = tasks.run(evaluate(env, ids, replace(actor, sampling=Sampling(temperature))))
            record[f"temperature {temperature:g}"] = means = _by_group(evaluation, env)
            shown = ", ".join(f"{name} {_shown(metric, mean)}" for name, mean in means.items())
            say(f"{metric} at temperature {temperature:g}: {shown}")
    return record


def _by_group(evaluation: Evaluation, env: TaskEnv[Any]) -> dict[str, float]:
    groups: dict[str, list[float]] = defaultdict(list)
    for episode in evaluation.episodes:
        for name in dict.fromkeys(("all", env.task(episode.question_id).group or "all")):
            groups[name].append(episode.metrics[env.metrics[0].name])
    return {name: round(float(np.mean(values)), 4) for name, values in sorted(groups.items())}
