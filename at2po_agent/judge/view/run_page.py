"""The page of a run directory, whichever kind of run it is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from at2po_agent.config_files import read_yaml
from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.judge.results.stored import Finished, facts
from at2po_agent.judge.results.tree_report import TREE, StoredTree
from at2po_agent.judge.view.page import Heading, write_page
from at2po_agent.judge.view.page_episodes import episode_chunks, evaluation_head
from at2po_agent.judge.view.page_trees import chosen_steps, training_page
from at2po_agent.terminal import counted
from at2po_agent.training.run_dir import RunDirError, read_sessions
from at2po_agent.training.stored_files import read_value, unchanged
from search_backend.outside import Unusable


def write_report(
    run: Path, path: Path, trees: int, select: Callable[[Finished], Sequence[EpisodeRecord]] = lambda run: run.episodes
) -> str:
    """Write the page of an evaluation or a training run; returns what it shows, in words.

    Args:
        run: its directory.
        path: of the file; replaced as a whole.
        trees: about how many of a training run's stored trees it holds.
        select: which episodes of an evaluation it holds; the summary is of all of them.

    Raises:
        RunDirError: it is no run directory, or holds nothing to show, or what it holds is damaged.
        ConfigError: its configuration is damaged.
        DiskError: the file cannot be written.
    """
    return _training(run, path, trees) if (run / "trees").is_dir() else _evaluation(run, path, select)


def _evaluation(run: Path, path: Path, select: Callable[[Finished], Sequence[EpisodeRecord]]) -> str:
    finished = Finished.read(run)
    episodes = select(finished)
    title = f"{finished.benchmark} {finished.split}"
    temperature = finished.manifest.get("sampling", {}).get("temperature")
    asked = counted(finished.summary.questions, finished.measured.task_word)
    said = [finished.model, asked, *([] if temperature is None else [f"temperature {temperature:g}"])]
    subtitle = ", ".join(said)
    heading, drawn = Heading(title, subtitle, finished.demo, list(facts(finished.manifest))), run / TREE
    tree = _tree(drawn) if drawn.is_file() else None
    chains = finished.tree.chains if finished.tree else None
    head = evaluation_head(heading, finished.summary, episodes, tree, chains, finished.measured)
    write_page(path, f"{title}, {finished.model}", head, episode_chunks(episodes))
    return f"{len(episodes):,} episodes"


def _training(run: Path, path: Path, trees: int) -> str:
    files = chosen_steps(run, trees)
    # As it was written: a run of an older version is shown too.
    config = read_yaml(run / "config.yaml")
    env, algorithm = _section(config, "env"), _section(config, "algorithm")
    title = f"{env.get('id', run.name)} · {algorithm.get('name', '?')}"
    subtitle = f"{run.name}, from {_section(config, 'policy').get('path', '?')}, seed {config.get('seed', '?')}"
    described = [*facts(config), *facts(_last_session(run))]
    heading = Heading(title, subtitle, env.get("split") == "demo", described)
    head, chunks = training_page(run, heading, files)
    write_page(path, f"{title}, {run.name}", head, chunks)
    return f"{len(head['trees']):,} trees of {len(files)} steps"


def _tree(file: Path) -> dict[str, Any]:
    try:
        return dict(read_value(file, unchanged(StoredTree)))
    except Unusable as error:
        raise RunDirError(f"{error}; `at2po-agent rescore {file.parent}` writes it again") from error


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _last_session(run: Path) -> dict[str, Any]:
    # The configuration is shown as ``config.yaml`` has it.
    return {key: value for session in read_sessions(run)[-1:] for key, value in session.items() if key != "config"}
