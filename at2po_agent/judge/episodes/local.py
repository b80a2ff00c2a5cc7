"""A local policy as the judged model: the trainer's own greedy evaluation, episode by episode, with transcripts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from at2po_agent import signals
from at2po_agent.judge.config import JudgeConfig
from at2po_agent.judge.episodes.play import Metered, Played, record_of
from at2po_agent.judge.episodes.records import EpisodeRecord
from at2po_agent.method.expansion import Chains
from at2po_agent.method.tree import TurnTree
from at2po_agent.policy.architecture import positions
from at2po_agent.policy.base import Finish, Sampling
from at2po_agent.policy.loading import PolicyConfig, load_model
from at2po_agent.policy.local.policy import LocalPolicy
from at2po_agent.rollouts.batch import rollout
from at2po_agent.rollouts.grow import Actor
from at2po_agent.rollouts.outages import Outages
from at2po_env.state import plain
from at2po_env.tasks import TaskEnv


@dataclass(frozen=True)
class LocalModel:
    """A model in this process, that evaluates in batches as training does."""

    engine: LocalPolicy
    actor: Actor  # the engine as it acts in episodes
    config: JudgeConfig

    @classmethod
    def open(cls, path: Path, config: JudgeConfig) -> LocalModel:
        """Load a model directory.

        Raises:
            PolicyError: it cannot be loaded.
        """
        model = config.model
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.use_deterministic_algorithms(True)
        transformers.utils.logging.disable_progress_bar()  # the display has its own
        found, codec = load_model(PolicyConfig(path=str(path), dtype=model.dtype, device=model.device))
        engine = LocalPolicy(found, codec, max_batch=model.max_batch, deterministic=True)
        limits = config.limits.rollout(positions(found))
        return cls(engine, Actor(engine, codec, Sampling(config.temperature), limits), config)

    def run(
        self,
        env: TaskEnv[Any],
        ids: Sequence[str],
        done: set[tuple[str, int]],
        on_records: Callable[[Sequence[EpisodeRecord]], None],
        outages: Outages,
    ) -> None:
        """Evaluate every question in batches of ``config.concurrency``; what is ``done`` is not recorded again.

        A batch of which anything is missing runs as a whole: which episodes run together is the same after a resume, so
        that every float is.
        """
        size = self.config.concurrency
        for sample in range(self.config.samples):
            for start in range(0, len(ids), size):
                batch = ids[start : start + size]
                if missing := {question for question in batch if (question, sample) not in done}:
                    records = signals.run(self._batch(env, batch, sample, start, outages))
                    on_records([record for record in records if record.question_id in missing])

    async def _batch(
        self, env: TaskEnv[Any], ids: Sequence[str], sample: int, start: int, outages: Outages
    ) -> list[EpisodeRecord]:
        began = time.perf_counter()
        actor = replace(self.actor, outages=outages)
        grown = await rollout(env, ids, actor, Chains(1), key=(self.config.seed, sample, start))
        each = (time.perf_counter() - began) / len(ids)  # a batch has one time; an episode has its share
        trees = {tree.question_id: tree for tree in grown.trees}
        return [self._record(env, id_, sample, trees.get(id_), grown.dropped.get(id_), each) for id_ in ids]

    def _record(
        self, env: TaskEnv[Any], id_: str, sample: int, tree: TurnTree | None, dropped: str | None, seconds: float
    ) -> EpisodeRecord:
        own = env.clone()
        own.reset(options={"task_id": id_})
        prompt = plain(own.observation())
        if tree is None or not tree.leaves:
            error = dropped or "the search or the engine failed for good"
            return record_of(own, own.snapshot(), Played(sample, prompt, (), seconds=seconds, error=error))
        leaf, path = next(tree.trajectories())
        metered = [
            Metered(len(tree.prompt_ids(node.parent)), len(node.action), finish=self.finish(node.action, own.stop))
            for node in (tree[at] for at in path)
        ]
        return record_of(own, tree[leaf].snapshot, Played(sample, prompt, metered, seconds=seconds))

    def finish(self, ids: Sequence[int], stop: Sequence[str]) -> Finish:
        """Why a turn ended, which a tree does not keep."""
        codec = self.engine.codec
        if ids[-1] in codec.eos_ids:
            return "eos"
        text = codec.decode_action(ids)
        return "stop" if any(end in text for end in stop) else "length"

    def close(self) -> None:
        """Stop the engine."""
        self.engine.close()
