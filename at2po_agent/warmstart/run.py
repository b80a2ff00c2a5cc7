"""``warm-start``: make a policy that knows a task's format, by imitating a scripted teacher in the real environment.

The teacher plays episodes, the codec writes down exactly the ids that the policy would have seen and written, and the
model is fitted to them. The model is an existing directory, or a fresh tiny one with a tokenizer of its own.
"""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import MISSING

from at2po_agent import tasks
from at2po_agent.atomic_files import new_directory, write_text
from at2po_agent.environments import EnvConfig, check_env_id, import_tasks, make_search_env
from at2po_agent.policy.base import Sampling
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.loading import load_policy, positions, resolve_policy
from at2po_agent.rollouts.evaluate import Evaluation, evaluate
from at2po_agent.rollouts.grow import Actor, Limits
from at2po_agent.rollouts.outages import Outages
from at2po_agent.settings import ConfigError, at_least, load
from at2po_agent.warmstart.demonstrations import begin_all, play, write_down
from at2po_agent.warmstart.imitation import Demonstration, FitConfig, Progress, fit
from at2po_agent.warmstart.new_model import TinyConfig, new_model, train_tokenizer
from at2po_agent.warmstart.teacher import ScriptedTeacher, TeacherConfig
from at2po_env.search_qa import SearchQAEnv, group_of
from at2po_env.state import Question

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True)
class StartConfig:
    """What is fitted: an existing model, or a fresh tiny one."""

    path: str | None = None  # a model directory or builtin:NAME; null: a fresh one, as below
    tiny: TinyConfig = field(default_factory=TinyConfig)
    text_env: dict[str, Any] = field(default_factory=dict)  # over env.kwargs: whose texts the tokenizer is trained on
    text_episodes: int = at_least(4000, 1)


@dataclass(frozen=True)
class WarmEvalConfig:
    """How the result is judged, on questions that the teacher never played."""

    split: str = "dev"
    questions: int = at_least(500, 0)  # the first of the split; 0: no evaluation
    kwargs: dict[str, Any] = field(default_factory=dict)  # laid over env.kwargs
    temperatures: tuple[float, ...] = (0.0, 1.0)


@dataclass(frozen=True)
class WarmStartConfig:
    """The root of a warm-start configuration."""

    output: str = MISSING  # the model directory that is made
    seed: int = at_least(0, 0)
    threads: int = at_least(0, 0)  # of torch; 0: every core
    env: EnvConfig = field(default_factory=EnvConfig)
    variants: tuple[dict[str, Any], ...] = ({},)  # each laid over env.kwargs; the episodes are shared out over them
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    model: StartConfig = field(default_factory=StartConfig)
    episodes: int = at_least(20000, 1)  # that the teacher plays
    context_weight: float = at_least(0.3, 0)  # of the loss of what the policy reads; what it writes weighs 1
    fit: FitConfig = field(default_factory=FitConfig)
    eval: WarmEvalConfig = field(default_factory=WarmEvalConfig)


def load_warm_start(path: str | Path | None, overrides: Sequence[str] = ()) -> WarmStartConfig:
    """The defaults, then the YAML file at ``path``, then ``key=value`` overrides; what they name exists.

    Raises:
        ConfigError: see ``settings.load``; or there is no such environment.
        PolicyError: there is no such model to start from.
    """
    config = load(WarmStartConfig, path, overrides)
    import_tasks(config.env.imports)
    check_env_id(config.env.id)
    if config.model.path is not None:
        resolve_policy(config.model.path)
    return config


def run(config_path: str | Path | None, overrides: Sequence[str] = (), say: Callable[[str], None] = print) -> Path:
    """Make a policy as the YAML file and the ``key=value`` overrides say, and return its directory.

    Raises:
        ConfigError: the configuration is wrong, or the output exists.
        PolicyError: there is no such model to start from.
    """
    config = load_warm_start(config_path, overrides)
    output = Path(config.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"output: {output} already exists; remove it or choose another folder")
    say(f"loading {config.model.path or 'torch'} …")
    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
    command = ["at2po-agent", "warm-start", *(["--cfg", str(config_path)] if config_path else []), *overrides]
    with new_directory(output) as folder:
        record = {"command": shlex.join(command), **_make_policy(config, folder, say)}
        write_text(folder / "warmstart.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    say(f"wrote {output}")
    return output


def _make_policy(config: WarmStartConfig, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Write model and tokenizer into ``folder`` and return the record of how they were made."""
    import torch
    import transformers

    began = perf_counter()
    transformers.utils.logging.disable_progress_bar()
    model, tokenizer = _start(config, say)
    tokenizer.save_pretrained(folder)
    codec = Codec.from_dir(folder)
    demonstrations, taught = demonstrate(config, codec, tokenizer.eos_token_id, say)
    progress = _ProgressLines(say)
    fit(model, demonstrations, config.fit, config.seed, progress)
    model.save_pretrained(folder)
    return {
        "seed": config.seed,
        "config": asdict(config),
        "teacher": taught,
        "fit": {"steps": progress.last.steps, "tokens": progress.last.tokens, "loss": round(progress.last.loss, 4)},
        "evaluation": _judge(config, folder, say),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "seconds": round(perf_counter() - began),
    }


def _env(config: WarmStartConfig, split: str, over: Mapping[str, Any]) -> SearchQAEnv:
    import_tasks(config.env.imports)
    return make_search_env(config.env.id, split, {**config.env.arguments, **over})


def _start(config: WarmStartConfig, say: Callable[[str], None]) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Model and tokenizer before the first step."""
    if config.model.path is not None:
        model, codec = load_policy(resolve_policy(config.model.path))
        return model, codec.tokenizer
    texts = list(_texts(config))
    tokenizer = train_tokenizer(texts, config.model.tiny.vocab_size)
    model = new_model(config.model.tiny, tokenizer, config.seed)
    say(f"fresh model of {model.num_parameters():,} parameters, {len(tokenizer)} tokens from {len(texts):,} texts")
    return model, tokenizer


def _texts(config: WarmStartConfig) -> Iterator[str]:
    """What is encoded piece by piece in the episodes of a faultless teacher, in the tokenizer's own environment."""
    env = _env(config, config.env.split, config.model.text_env)
    teacher = ScriptedTeacher(TeacherConfig())
    for question, script in begin_all(env.questions, teacher, config.model.text_episodes, (config.seed,)):
        yield from (segment.text for segment in env.dialect.prompt(question.question))
        for turn in play(env, question, script).turns():
            yield turn.text
            yield from (segment.text for segment in turn.observation)


def demonstrate(
    config: WarmStartConfig, codec: Codec, end_id: int, say: Callable[[str], None]
) -> tuple[list[Demonstration], dict[str, Any]]:
    """The teacher's episodes, and a record of what it taught.

    Args:
        config: ``episodes`` are shared out over ``variants``.
        codec: writes the episodes down.
        end_id: stands after the last turn of each.
        say: told when all are played.
    """
    began = perf_counter()
    found: list[Demonstration] = []
    em: list[float] = []
    for number, variant in enumerate(config.variants):
        env = _env(config, config.env.split, variant)
        episodes = len(range(number, config.episodes, len(config.variants)))
        teacher = ScriptedTeacher(config.teacher)
        for question, script in begin_all(env.questions, teacher, episodes, (config.seed, number)):
            state = play(env, question, script)
            outcome = env.rules.outcome(state)
            em.append(0.0 if outcome is None else outcome.em)
            found.append(write_down(env, state, codec, context_weight=config.context_weight, end_id=end_id))
        env.search.close()
    mean = float(np.mean(em))
    say(f"{len(found):,} episodes in {perf_counter() - began:.0f} s; the teacher's EM is {mean:.1%}")
    return found, {"em": round(mean, 4), "taught_wrongly": _taught_wrongly(config.teacher, env.questions)}


def _taught_wrongly(teacher: TeacherConfig, questions: Sequence[Question]) -> dict[str, dict[str, Any]]:
    """For every relation with a wrong keyword: how often, and one search as it should be and as it was taught."""
    found: dict[str, dict[str, Any]] = {}
    for question in questions:
        for step, relation in enumerate(question.metadata.get("relations", ())):
            if relation in teacher.wrong_relations and relation not in found:
                right, taught = question.metadata["plan"][step], question.metadata["wrong"][step]["keyword"]
                found[relation] = {"share": teacher.wrong_keyword, "right": right, "taught": taught}
    return dict(sorted(found.items()))


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
    """Exact match of the policy in ``folder`` on questions that the teacher never played."""
    if not config.eval.questions:
        return {}
    from at2po_agent.policy.local.policy import LocalPolicy

    env = _env(config, config.eval.split, config.eval.kwargs)
    questions = env.questions[: config.eval.questions]
    policy = LocalPolicy.from_pretrained(folder)
    limits = Limits(max_context_tokens=positions(policy.model))
    actor = Actor(policy, policy.codec, limits=limits, outages=Outages(say))
    found: dict[str, Any] = {"questions": len(questions), "split": config.eval.split}
    try:
        for temperature in config.eval.temperatures:
            ids = [question.id for question in questions]
            evaluation = tasks.run(evaluate(env, ids, replace(actor, sampling=Sampling(temperature))))
            found[f"temperature {temperature:g}"] = result = _by_group(evaluation, questions)
            say(f"EM at temperature {temperature:g}: " + ", ".join(f"{name} {em:.1%}" for name, em in result.items()))
    finally:
        policy.close()
    return found


def _by_group(evaluation: Evaluation, questions: Sequence[Question]) -> dict[str, float]:
    named = {question.id: group_of(question) for question in questions}
    groups: dict[str, list[float]] = defaultdict(list)
    for episode in evaluation.episodes:
        groups["all"].append(episode.metrics["em"])
        groups[named[episode.question_id]].append(episode.metrics["em"])
    return {name: round(float(np.mean(em)), 4) for name, em in sorted(groups.items())}
