"""TRL 1.16: trees inside its asynchronous trainer, as a rollout worker that sends one sample for each turn.

::

    policy = at2po.LocalPolicy.from_pretrained(model)
    worker = TreeRolloutWorker(env, at2po.Actor(policy, policy.codec), at2po.build("at2po"))
    trainer = AsyncGRPOTrainer(model, args=AsyncGRPOConfig(…), rollout_worker=worker,
                               train_dataset=worker.train_dataset, weight_transfer=LocalWeightTransfer(policy, worker))

TRL's advantage is one number for a sample, so a sample is one turn of a tree: its path as context, the turn itself as
what is trained, the turn's advantage. TRL folds samples that share a prefix into a trie and forwards it once, so the
tree costs what it costs here. Its loss is the mean over all trained tokens; with ``path_weights`` advantages are scaled
so that inside a tree this is AT²PO's mean over each trajectory's tokens and then over trajectories. Its ratio and clip
are of tokens, which no worker can change.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from at2po_agent.method.algorithms import Algorithm
from at2po_agent.method.groups import draw_questions, has_unequal_rewards
from at2po_agent.method.tree import ROOT, TurnTree
from at2po_agent.policy.local.policy import LocalPolicy
from at2po_agent.rollouts.batch import rollout
from at2po_agent.rollouts.grow import Actor
from at2po_agent.tasks import run
from at2po_env.tasks import TaskEnv

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from trl.experimental.async_grpo.async_rollout_worker import RolloutSample

WAIT_SECONDS = 0.5  # for room in a full buffer or for new weights, between two looks at whether to stop


@dataclass(frozen=True)
class TreeRolloutConfig:
    """Settings of a worker that grows trees.

    Raises:
        ValueError: a number is below 1.
    """

    trees: int = 1  # grown together
    most_waiting: int = 256  # samples in the buffer; a full one stops growing
    path_weights: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("trees", "most_waiting"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")


class TreeRolloutWorker:
    """Grow trees in a thread and hand their turns to TRL's asynchronous trainer (its ``RolloutWorkerProtocol``).

    Args:
        env: the tasks; cloned for each tree and closed by whoever made it.
        actor: samples the turns. Its policy is what TRL's weight transfer has to update.
        algorithm: its expansion and credit are used; the objective is TRL's.
        config: see there.
    """

    def __init__(
        self, env: TaskEnv[Any], actor: Actor, algorithm: Algorithm, config: TreeRolloutConfig | None = None
    ) -> None:
        self._env, self._actor, self._algorithm = env, actor, algorithm
        self._config = TreeRolloutConfig() if config is None else config
        self.rollout_buffer: queue.Queue[RolloutSample] = queue.Queue(self._config.most_waiting)
        self.metrics_queue: queue.Queue[dict[str, Any]] = queue.Queue()
        self.growing = threading.Lock()  # held while turns are sampled, so that weights change between trees
        self._version = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._alive_at = time.monotonic()

    @property
    def train_dataset(self) -> Dataset:
        """One row for each task, by which TRL counts epochs; the prompts are the environment's, so they are empty."""
        from datasets import Dataset

        return Dataset.from_dict({"prompt": [[{"role": "user", "content": ""}] for _ in self._env.tasks]})

    def start(self) -> None:
        """Begin to grow trees; TRL calls it when training begins."""
        self._stop.clear()
        self._alive_at = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="at2po-trees", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the trees that are growing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def update_model_version(self, model_version: int) -> None:
        """Tag the samples of trees that begin from now on with the policy's version."""
        self._version = model_version

    def check_health(self, stale_after_s: float) -> None:
        """Raise what ended the thread, if anything did.

        Raises:
            RuntimeError: growing failed, or nothing was grown or sent for ``stale_after_s`` seconds.
        """
        if self._error is not None:
            raise RuntimeError(f"the rollout worker failed: {self._error}") from self._error
        silent = time.monotonic() - self._alive_at
        if silent > stale_after_s:
            raise RuntimeError(f"the rollout worker has sent nothing for {silent:.0f} s")

    def _work(self) -> None:
        try:
            for first in itertools.count(step=self._config.trees):
                if self._stop.is_set():
                    return
                self._grow(first)
        except Exception as error:
            # The trainer's thread raises it, from check_health.
            self._error = error

    def _grow(self, first: int) -> None:
        config = self._config
        tasks = draw_questions(self._env.tasks, config.seed, first, config.trees)
        expansion = self._algorithm.expansion
        # Where copying weights failed, TRL stops without a resume, and nobody gives the lock back.
        while not self.growing.acquire(timeout=WAIT_SECONDS):
            if self._stop.is_set():
                return
        try:
            version = self._version
            grown = run(rollout(self._env, tasks, self._actor, expansion, key=(config.seed, 0), first=first))
        finally:
            self.growing.release()
        self._alive_at = time.monotonic()
        for number, tree in enumerate(grown.trees, start=first):
            tree.prune()
            self.metrics_queue.put({"trees/leaves": float(len(tree.leaves)), "trees/turns": float(len(tree) - 1)})
            # Equal rewards have no signal, and TRL would train on their zeros.
            if has_unequal_rewards(tree):
                for sample in self._samples(tree, number, version):
                    self._put(sample)

    def _put(self, sample: RolloutSample) -> None:
        while not self._stop.is_set():
            try:
                self.rollout_buffer.put(sample, timeout=WAIT_SECONDS)
            except queue.Full:
                continue
            finally:
                self._alive_at = time.monotonic()
            return

    def _samples(self, tree: TurnTree, group: int, version: int) -> list[RolloutSample]:
        rewards = self._algorithm.shaping(tree)
        samples = samples_of(tree, self._algorithm.credit(tree, rewards), self._config.path_weights)
        metrics = {
            "reward": float(np.mean(list(rewards.values()))),
            "reward_std": float(np.std(list(rewards.values()))),
        }
        return [_as_trl(sample, self._actor, metrics, group, version) for sample in samples]


class LocalWeightTransfer:
    """Put TRL's weights into the local engine of a worker's policy, between trees (its ``WeightTransferProtocol``)."""

    def __init__(self, policy: LocalPolicy, worker: TreeRolloutWorker) -> None:
        self._policy, self._worker = policy, worker

    def init_weight_transfer(self) -> None:
        """Nothing to set up: trainer and engine are in one process."""

    def pause(self) -> None:
        """Wait until the trees that are growing are grown, and let no other begin."""
        self._worker.growing.acquire()

    def send_weights(self, iterator: Iterator[tuple[str, Tensor]]) -> None:
        """Copy each weight over the policy's of the same name.

        Raises:
            KeyError: the policy has no weight of a name.
        """
        own = dict(self._policy.model.named_parameters())
        for name, weight in iterator:
            own[name].data.copy_(weight)

    def resume(self) -> None:
        """Sample with the new weights."""
        self._policy.publish(self._policy.model, self._policy.version + 1)
        self._worker.growing.release()

    def destroy(self) -> None:
        """Nothing to release."""


@dataclass(frozen=True)
class TurnSample:
    """One turn of a tree as a training row of its own."""

    ids: tuple[int, ...]  # [L] from the prompt to the turn's last token
    start: int  # where the turn begins; the tokens before it are context
    logp: tuple[float, ...]  # [L − start] nats, of the policy that sampled
    advantage: float


def samples_of(tree: TurnTree, advantages: Sequence[Sequence[float]], path_weights: bool = True) -> list[TurnSample]:
    """One sample for each turn of a tree, in the order of its nodes.

    The mean of ``ratio · advantage`` over all tokens of the samples is, with ``path_weights``, the mean over each
    trajectory's tokens and then over trajectories: a turn ``n`` of ``M`` tokens in all has the advantage
    ``M · Σ_{leaf under n} A(leaf, n) / (N · |y_leaf|)``. Clipping keeps this exact where the leaves agree on the sign
    of a shared turn's advantage, as they do under AT²PO's credit. Without, the advantage is the mean over its leaves.

    Args:
        tree: pruned, and grown by a policy that gives log-probabilities.
        advantages: one list for each leaf in the order of ``tree.leaves``, one value for each turn on its path.
        path_weights: see above.
    """
    weights: dict[int, list[tuple[float, float]]] = {}  # of each turn: (weight, advantage) of the leaves under it
    for (_, path), values in zip(tree.trajectories(), advantages, strict=True):
        length = sum(len(tree[n].action) for n in path)
        for n, value in zip(path, values, strict=True):
            weights.setdefault(n, []).append((1 / (len(tree.leaves) * length), value))
    tokens = sum(len(tree[n].action) for n in weights)
    samples = []
    for n in sorted(weights):
        if path_weights:
            advantage = tokens * sum(weight * value for weight, value in weights[n])
        else:
            advantage = float(np.mean([value for _, value in weights[n]]))
        context = tree.prompt_ids(max(ROOT, tree[n].parent))
        samples.append(TurnSample((*context, *tree[n].action), len(context), tree[n].logp, advantage))
    return samples


def _as_trl(sample: TurnSample, actor: Actor, metrics: Mapping[str, float], group: int, version: int) -> RolloutSample:
    from trl.experimental.async_grpo.async_rollout_worker import RolloutSample

    said = actor.codec.decode_action(sample.ids[sample.start :])
    context = actor.codec.decode_action(sample.ids[: sample.start])
    mask, logp = np.zeros(len(sample.ids), dtype=np.int64), np.zeros(len(sample.ids), dtype=np.float32)
    mask[sample.start :], logp[sample.start :] = 1, sample.logp
    return RolloutSample(
        prompt=[{"role": "user", "content": context}],
        completion=[{"role": "assistant", "content": said}],
        input_ids=np.array(sample.ids, dtype=np.int64),
        completion_mask=mask,
        old_log_probs=logp,
        advantage=sample.advantage,
        model_version=version,
        group_id=group,
        metrics=dict(metrics),
        enqueued_at=time.time(),
    )
