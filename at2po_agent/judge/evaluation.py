"""Run an evaluation: open everything, play the missing episodes, write the summary."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at2po_agent import signals
from at2po_agent.config_files import Files
from at2po_agent.environments import check_env_id, import_tasks
from at2po_agent.judge.config import JudgeConfig
from at2po_agent.judge.display import EvaluationDisplay
from at2po_agent.judge.dry_run import print_plan
from at2po_agent.judge.endpoint.client import ChatEndpoint
from at2po_agent.judge.endpoint.key import Key
from at2po_agent.judge.endpoint.response_cache import ResponseCache
from at2po_agent.judge.episodes.play import run_episodes
from at2po_agent.judge.episodes.records import EpisodeRecord, read_episodes
from at2po_agent.judge.measured import Measured
from at2po_agent.judge.opening import open_env
from at2po_agent.judge.resolve import default_split, env_ids, identity, label, load_resolved, starting_policy
from at2po_agent.judge.results.comparison import compare
from at2po_agent.judge.results.diagnosis import diagnosis
from at2po_agent.judge.results.directory import JudgeDirectory, latest, read_config
from at2po_agent.judge.results.manifest import manifest
from at2po_agent.judge.results.metrics import Prices, summarise
from at2po_agent.judge.results.stored import Finished
from at2po_agent.judge.results.tables import summary_table, write_table
from at2po_agent.judge.results.tree_report import conclude_tree
from at2po_agent.judge.tree.local import search_local_trees
from at2po_agent.judge.tree.search import check_tree, sampled, search_trees
from at2po_agent.policy.loading import resolve_policy
from at2po_agent.rollouts.outages import Outages
from at2po_agent.terminal import SafeConsole, say_loading
from at2po_env.dataset import DataNotFound
from at2po_env.installed import WAYS
from at2po_env.registration import check_data
from at2po_env.tasks import TaskEnv

if TYPE_CHECKING:
    from at2po_agent.judge.episodes.local import LocalModel

_SIGNALLED = 128  # exit statuses from here on are of signals


def evaluate_all(
    cfg: Files,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    dry_run: bool = False,
    start: bool = False,
) -> int:
    """Evaluate a model on every environment that a configuration names, each into a directory of its own.

    Args:
        cfg: YAML files or names of packaged configurations, or None.
        overrides: laid over them.
        resume: go on with the newest directory of the same environment and model, where there is one.
        dry_run: print what would be done instead.
        start: the model is a training run; evaluate also the policy that it began with, and print both side by side.

    Returns:
        The exit status: 0, or 1 where an episode ended in an error.
    """
    config = load_resolved(cfg, overrides)
    check_tree(config)
    import_tasks(config.imports)
    models = [starting_policy(config.model), config.model] if start else [config.model]
    one_each = [
        dataclasses.replace(config, model=model, envs=(env_id,), split=config.split or default_split(env_id))
        for model in models
        for env_id in env_ids(config.envs)
    ]
    status, runs = _evaluate([(one, latest(one) if resume else None) for one in one_each], dry_run)
    if start and len(runs) == len(one_each) and status < _SIGNALLED:
        write_table(compare([Finished.read(run, texts=False) for run in runs]), "rich", SafeConsole())
    return status


def go_on(run: Path, overrides: Sequence[str] = (), *, dry_run: bool = False) -> int:
    """Go on with the evaluation in a directory; what decides its results cannot change.

    Returns:
        The exit status, as of ``evaluate_all``.
    """
    config = read_config(run, overrides)
    import_tasks(config.imports)
    return _evaluate([(config, run)], dry_run)[0]


def _evaluate(jobs: Sequence[tuple[JudgeConfig, Path | None]], dry_run: bool) -> tuple[int, list[Path]]:
    """Open every environment before the first episode: what is wrong with the last is said before any work.

    Returns:
        The exit status, and the directories of the evaluations that were run.
    """
    for job, _ in jobs:
        check_env_id(job.envs[0])
    _check_data([job for job, _ in jobs])
    with ExitStack() as stack:
        opened = [(job, stack.enter_context(closing(open_env(job))), run) for job, run in jobs]
        if dry_run:
            for job, env, run in opened:
                print_plan(job, env, _tasks(job, env), SafeConsole(), read_episodes(run) if run else ())
            return 0, []
        worst, runs = 0, []
        for _, same_model in groupby(opened, key=lambda one: one[0].model):
            group = list(same_model)
            with _open_model(group[0][0]) as model:
                who = identity(group[0][0].model)
                for job, env, run in group:
                    evaluation = _Evaluation(job, env, run, model, who)
                    runs.append(evaluation.directory.path)
                    worst = max(worst, evaluation.run())
                    if worst >= _SIGNALLED:
                        return worst, runs
    return worst, runs


def _check_data(jobs: Sequence[JudgeConfig]) -> None:
    """Name all data that is missing at once, before an index is built or anything is asked.

    Raises:
        DataNotFound: an environment has no questions, or no passages to search.
    """
    lacking: dict[str, DataNotFound] = {}
    for job in jobs:
        assert job.split is not None
        folder = job.env.get("data_dir")
        # Anything else is refused when the environment is opened.
        if isinstance(folder, str | None):
            try:
                check_data(
                    job.envs[0], job.split, data_dir=folder, own_passages=job.search is None and "search" not in job.env
                )
            except DataNotFound as error:
                lacking[job.envs[0]] = error
    if len(lacking) == 1:
        raise next(iter(lacking.values()))
    if lacking:
        lines = "".join(f"\n  {env_id}: {error.missing}" for env_id, error in lacking.items())
        raise DataNotFound(f"{len(lacking)} of {len(jobs)} environments lack data, and nothing was run:{lines}\n{WAYS}")


@contextmanager
def _open_model(config: JudgeConfig) -> Iterator[LocalModel | None]:
    """The model in this process; None for one at an endpoint, whose key is there."""
    if config.model.base_url is not None:
        Key.of(config.model.key_var)
        yield None
        return
    say_loading(config.model.name)
    from at2po_agent.judge.episodes.local import LocalModel

    with closing(LocalModel.open(resolve_policy(config.model.name), config)) as model:
        yield model


def _tasks(config: JudgeConfig, env: TaskEnv[Any]) -> list[str]:
    """The first ones of the split, as the trainer takes them."""
    return list(env.tasks[: config.questions])


class _Evaluation:
    """One environment's evaluation."""

    def __init__(
        self, config: JudgeConfig, env: TaskEnv[Any], run: Path | None, model: LocalModel | None, who: dict[str, Any]
    ) -> None:
        self.config, self.env, self.model = config, env, model
        self.ids, self.measured = _tasks(config, env), Measured.by(env)
        described = manifest(config, env, self.ids, who)
        self.directory = JudgeDirectory.resume(run, described) if run else JudgeDirectory.create(config, described)

    def run(self) -> int:
        config, directory = self.config, self.directory
        total = len(self.ids) * (config.expansion.leaves if config.tree else config.samples)
        data = self.env.manifest()["dataset"]
        chains = config.expansion.chains if config.tree else None
        title, metric = f"{data['name']} {data['split']}", self.measured.first
        with directory, EvaluationDisplay(title, total, chains=chains, metric=metric) as display:
            display.note(f"run directory: {directory.path}")
            earlier = directory.records()
            display.earlier(earlier)
            done = {record.key for record in earlier if record.error is None}
            whole = sampled(earlier, config.expansion) if config.tree else {}
            del earlier
            try:
                if config.tree:
                    self._grow_missing([id_ for id_ in self.ids if id_ not in whole], display)
                else:
                    self._run_missing(done, display)
            except signals.Interrupted as ended:
                display.note(
                    f"stopped with {len(directory.records()):,} of {total:,} episodes recorded; continue with: "
                    f"at2po-agent eval --resume {directory.path}"
                )
                return 128 + ended.number
            except Exception:
                if not directory.discard_if_empty():
                    display.note(f"once that is fixed, continue with: at2po-agent eval --resume {directory.path}")
                raise
            return conclude_tree(config, directory, display, self.measured) if config.tree else self._conclude(display)

    def _grow_missing(self, todo: Sequence[str], display: EvaluationDisplay) -> None:
        outages = Outages(display.note)

        def on_records(records: Sequence[EpisodeRecord]) -> None:
            self.directory.append(records)
            display.finished(records[: self.config.expansion.leaves])

        if self.model is not None:
            search_local_trees(self.env, self.model, self.ids, todo, on_records, outages)
            return

        async def search(endpoint: ChatEndpoint) -> None:
            await search_trees(self.env, endpoint, self.config, todo, on_records, outages)

        if todo:
            signals.run(self._ask(search, outages))

    def _run_missing(self, done: set[tuple[str, int]], display: EvaluationDisplay) -> None:
        def on_records(records: Sequence[EpisodeRecord]) -> None:
            self.directory.append(records)
            display.finished(records)

        outages = Outages(display.note)
        if self.model is not None:
            self.model.run(self.env, self.ids, done, on_records, outages)
            return
        samples = range(self.config.samples)
        todo = [(id_, sample) for id_ in self.ids for sample in samples if (id_, sample) not in done]
        if todo:
            signals.run(
                self._ask(
                    lambda endpoint: run_episodes(
                        self.env, endpoint, self.config, todo, lambda record: on_records([record]), outages
                    ),
                    outages,
                )
            )

    async def _ask(self, work: Callable[[ChatEndpoint], Awaitable[None]], outages: Outages) -> None:
        config = self.config
        with ExitStack() as stack:
            cache = stack.enter_context(ResponseCache(Path(config.cache).expanduser())) if config.cache else None
            async with ChatEndpoint(
                config.model,
                config.limits,
                concurrency=config.concurrency,
                request=config.request,
                cache=cache,
                outages=outages,
            ) as endpoint:
                await work(endpoint)

    def _conclude(self, display: EvaluationDisplay) -> int:
        model = self.config.model
        prices = Prices.known(model.price_prompt, model.price_completion)
        records = self.directory.records()
        summary = summarise(records, prices, measured=self.measured, batched=self.model is not None)
        self.directory.finish(summary)
        title = f"{self.config.envs[0]} {self.config.split}: {label(model)}"
        display.console.print(summary_table(summary, title, self.measured))
        display.say_cut(records, self.config.limits)
        if fault := diagnosis(records, self.config, self.directory.path):
            display.note(fault)
        if summary.errors:
            display.note(
                f"{summary.errors} episodes ended in an error and are not scored; try them again with: "
                f"at2po-agent eval --resume {self.directory.path}"
            )
        return 1 if summary.errors else 0
