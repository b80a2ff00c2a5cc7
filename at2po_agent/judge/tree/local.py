"""Trees of a model in this process: the questions of a batch grow in lockstep on one engine, as training grows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from at2po_agent import signals
from at2po_agent.judge.episodes.play import Metered
from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.judge.tree.search import GrownTurn, PathLost, all_paths, no_tree, records_of
from at2po_agent.method.expansion import Expansion
from at2po_agent.method.tree import ROOT, TurnTree
from at2po_agent.rollouts.grow import Actor, PromptTooLong, grow
from at2po_agent.rollouts.lockstep import Lockstep
from at2po_agent.rollouts.outages import Outages
from at2po_agent.tasks import run_all
from at2po_env.tasks import TaskEnv

if TYPE_CHECKING:
    from at2po_agent.judge.episodes.local import LocalModel


def search_local_trees(
    env: TaskEnv[Any],
    model: LocalModel,
    question_ids: Sequence[str],
    missing: Collection[str],
    on_records: Callable[[Sequence[EpisodeRecord]], None],
    outages: Outages,
) -> None:
    """Grow a tree and its chains for every question; each is recorded whole when its batch ends, or as one error.

    A batch of which any question is ``missing`` runs as a whole, and the missing ones are recorded: which paths run
    together is the same after a resume, so that every float is.
    """
    size = max(1, model.config.concurrency // model.config.expansion.chains)
    for start in range(0, len(question_ids), size):
        batch = question_ids[start : start + size]
        if any(question in missing for question in batch):
            for question, records in zip(batch, signals.run(_batch(env, model, batch, start, outages)), strict=True):
                if question in missing:
                    on_records(records)


async def _batch(
    env: TaskEnv[Any], model: LocalModel, ids: Sequence[str], start: int, outages: Outages
) -> list[list[EpisodeRecord]]:
    began, gate = time.perf_counter(), Lockstep(model.actor.policy, members=len(ids))
    actor = replace(model.actor, policy=gate, outages=outages)

    async def one(number: int, question_id: str) -> list[EpisodeRecord]:
        own = env.clone()
        try:
            own.reset(options={"task_id": question_id})
            return await _search(own, model, actor, (model.config.seed, number))
        finally:
            gate.leave()

    grown = await run_all(one(number, question_id) for number, question_id in enumerate(ids, start=start))
    # A batch has one time; a path has its share.
    each = (time.perf_counter() - began) / sum(map(len, grown))
    return [[replace(record, seconds=each) for record in records] for records in grown]


async def _search(env: TaskEnv[Any], model: LocalModel, actor: Actor, key: tuple[int, ...]) -> list[EpisodeRecord]:
    async def grown(expansion: Expansion, first: int) -> list[EpisodeRecord]:
        tree = await grow(env, actor, expansion, key=(*key, first), question_id=env.info()["task_id"])
        paths = path_numbers(tree)

        def turn(node: int) -> GrownTurn:
            action = tree[node].action
            prompt = len(tree.prompt_ids(tree[node].parent))
            return GrownTurn(first + paths[node], Metered(prompt, len(action), finish=model.finish(action, env.stop)))

        return records_of(env, tree, turn)

    try:
        return await all_paths(model.config.expansion, grown)
    except (PathLost, PromptTooLong) as reason:
        return [no_tree(env, str(reason))]


def path_numbers(tree: TurnTree) -> dict[int, int]:
    """The path that sampled each turn, by node, for a tree that branched between rounds and was grown in lockstep.

    Turns that are sampled together are added in the order of their paths, and a path goes on before anything branches
    off it: a turn's first child is of its own path, every other child begins one.
    """
    numbers: dict[int, int] = {}
    started = count()
    for node in range(1, len(tree)):
        parent = tree[node].parent
        goes_on = parent != ROOT and tree[parent].children[0] == node
        numbers[node] = numbers[parent] if goes_on else next(started)
    return numbers
