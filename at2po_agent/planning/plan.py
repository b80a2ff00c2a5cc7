"""Plan a run before it begins: the memory of its trainer and engine, and the tokens of a step.

Weights, gradients and AdamW's two moments (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1; one tensor
each of the parameter's type) follow from the number of parameters, and FSDP splits them evenly (ZeRO stage 3,
Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054, section 5). Activations are traced (``update_memory``). Keys
and values are ``kv_bytes_per_token`` times tokens. All of it is what tensors take; allocators and CUDA need some more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from at2po_agent.method import algorithms
from at2po_agent.planning.model_sizes import kv_bytes_per_token, read_sizes
from at2po_agent.planning.server_memory import Server, of_server
from at2po_agent.planning.step_size import StepSize, step_size
from at2po_agent.planning.update_memory import Trained, activation_bytes, micro_batch, star
from at2po_agent.policy.architecture import outline, positions
from at2po_agent.training.config import TrainConfig
from at2po_agent.update.packing import MicroBatch
from at2po_agent.update.trainable import refuse_untrainable

GIB = 2**30
_PREFIX_CACHE = 512 * 2**20  # LocalPolicy's bound of states that it keeps
_COLUMNS = 64  # KVSlots adds room in blocks of this many tokens
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Line:
    """One part of the memory of a trainer's device."""

    name: str
    rollout: int  # bytes while turns are sampled
    update: int  # bytes at the peak of the update
    note: str
    remedy: str = ""  # what makes it smaller, where it is too large


@dataclass(frozen=True)
class Plan:
    """The memory of one process of a run on its device, and the needs of a server and a step."""

    source: str  # of the model's sizes
    parameters: int
    trained: int
    lines: tuple[Line, ...]
    server: Server | None
    step: StepSize
    micro_batch: int  # packed tokens of it
    notes: tuple[str, ...]

    @property
    def needed(self) -> int:
        """Bytes on the trainer's device when it holds the most."""
        return max(sum(line.rollout for line in self.lines), sum(line.update for line in self.lines))

    def refusal(self, memory: int) -> str | None:
        """Say what does not fit into ``memory`` bytes and what to change; None where all fits."""
        update, rollout = {line: line.update for line in self.lines}, {line: line.rollout for line in self.lines}
        for sizes, when in ((update, "at the peak of an update"), (rollout, "while turns are sampled")):
            if sum(sizes.values()) > memory:
                line = max(sizes, key=lambda line: sizes[line])
                return (
                    f"does not fit: {when} a trainer's device holds {gib(sum(sizes.values()))} and has {gib(memory)}. "
                    f"The largest part is {line.name} with {gib(sizes[line])}: {line.remedy}"
                )
        return self.server.refusal if self.server else None


def gib(size: float) -> str:
    """Bytes as GiB, small ones as MiB."""
    return f"{size / GIB:,.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:,.1f} MiB"


def device_memory(device: str) -> int:
    """Bytes of this machine's first GPU, or of its own memory, or of what a container may take of that."""
    if device != "cpu" and torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(whole, int(text)) if text.isdigit() else whole


def make_plan(config: TrainConfig, memory: int, processes: int = 1) -> Plan:
    """Plan a run.

    Args:
        config: of the run.
        memory: bytes of each device.
        processes: that train together; as ``update.sharding`` says, they split weights, gradients and optimiser.

    Raises:
        ConfigError: something in the configuration is wrong.
        PolicyError: the model's sizes are not known, or it cannot be trained.
    """
    return _Planner(config, memory, processes).plan()


class _Planner:
    def __init__(self, config: TrainConfig, memory: int, processes: int) -> None:
        self.config, self.memory = config, memory
        self.processes = processes if config.update.splits(processes) else 1  # that split what each holds
        # The word that a split needs besides more processes.
        self.sharding = "" if config.update.sharding == "full" else " update.sharding=full"
        self.sums_gradients = processes > 1 and self.processes == 1
        self.sizes, self.source = read_sizes(config.policy.path)
        refuse_untrainable(self.sizes)
        lora = config.lora if config.lora.rank else None
        half, checkpointing = config.update.precision == "bfloat16", config.update.gradient_checkpointing
        self.trained = Trained(self.sizes, _DTYPES[config.policy.dtype], half, checkpointing, lora)
        self.model = self.trained.outline()
        self.step = step_size(config, positions(self.model))
        self.algorithm = algorithms.build(**vars(config.algorithm))
        self.tokens = min(config.update.max_tokens, self.step.tree * config.update.mini_batch)

    def plan(self) -> Plan:
        parameters = list(self.model.parameters())
        held, moving = list(self._static()), list(self._activations())
        if self.sums_gradients:
            # Gradients are copied to be summed when the activations are gone.
            copied = sum(line.update for line in held if line.name == "the gradients")
            if (beyond := copied - sum(line.update for line in moving)) > 0:
                moving.append(Line("summed gradients", 0, beyond, "beyond the activations", "update.sharding=full"))
        lines = (*held, *moving, *self._local_engine())
        server = of_server(self.config, self.sizes, self.step.path, self.memory)
        if server and server.shares_device:
            rest = sum(line.rollout for line in lines)
            lines += (Line("the server", server.share, 0, "gives its memory up for the update", server.remedy(rest)),)
        return Plan(
            source=self.source,
            parameters=sum(p.numel() for p in parameters),
            trained=sum(p.numel() for p in parameters if p.requires_grad),
            lines=lines,
            server=server,
            step=self.step,
            micro_batch=self.tokens,
            notes=self._notes(moving[0]),
        )

    def _static(self) -> Iterator[Line]:
        """Weights, gradients, moments and reference, split over the processes."""
        weights = _bytes(self.model.parameters())
        trained = _bytes(p for p in self.model.parameters() if p.requires_grad)
        n, each = self.processes, f"split over {self.processes} processes" if self.processes > 1 else ""
        remedy = self._split_remedy(weights + 3 * trained)
        yield Line("the weights", weights // n, weights // n, each or self.config.policy.dtype, remedy)
        yield Line("the gradients", 0, trained // n, each, remedy)
        yield Line("the optimiser", 2 * trained // n, 2 * trained // n, f"AdamW's two moments {each}".strip(), remedy)
        if self.algorithm.objective.kl_coef:
            yield self._reference(weights)
        if n > 1:
            yield Line("gathered weights", 0, self._gathered(), "of layers under way", "a smaller model")
            if not self.config.engine.reads_host_memory:
                yield Line("the whole model", weights, weights, "sampled from", "engine.kind=sglang with sync=disk")

    def _reference(self, weights: int) -> Line:
        if self.config.lora.rank:
            return Line("the reference", 0, 0, "the model without its adapters")
        more = f"more --processes{' with' if self.sharding else ''}{self.sharding}"
        remedy = f"{more} split it, lora.rank=16 needs none, algorithm.objective.kl_coef=0 does without"
        return Line("the reference", weights // self.processes, weights // self.processes, "of the KL term", remedy)

    def _gathered(self) -> int:
        """Bytes that FSDP gathers at the peak of a backward: outer weights and two layers, with gradients."""
        one, two = (_bytes(outline(self.sizes, self.trained.dtype, n).parameters()) for n in (1, 2))
        layer = two - one
        return 2 * (one - layer) + 3 * layer

    def _split_remedy(self, static: int) -> str:
        adapters = "" if self.config.lora.rank else ", or train adapters alone (lora.rank=16)"
        return f"split it over more devices (--processes {2 * self.processes}{self.sharding}){adapters}"

    def _activations(self) -> Iterator[Line]:
        """Of one micro-batch as it is configured; the other way is named beside it."""
        batch, other = self._micro_batch(), not self.trained.checkpointing
        chosen = activation_bytes(self.trained, batch)
        instead = activation_bytes(replace(self.trained, checkpointing=other), batch)
        logits = len(batch.targets) * self.sizes.vocab_size * 4
        yield Line(
            "the activations",
            0,
            chosen,
            f"of {len(batch.ids):,} packed tokens, layers {'kept' if other else 'computed again'}; "
            f"{'computed again' if other else 'kept'}: {gib(instead)}; logits in blocks, at once: {gib(logits)}",
            self._activation_remedy(chosen, instead),
        )

    def _micro_batch(self) -> MicroBatch:
        """As many of the largest trees as ``update.max_tokens`` takes, or one that fills it."""
        whole, rest = divmod(self.tokens, self.step.tree)
        prompt = min(self.step.prompt, self.tokens // 4)
        trees = [star(self.step.prompt, self.step.leaves, self.step.tree)] * whole
        if rest > prompt + 2 * self.step.leaves or not trees:
            trees.append(star(prompt, self.step.leaves, rest))
        return micro_batch(trees)

    def _activation_remedy(self, chosen: int, instead: int) -> str:
        if not self.trained.checkpointing and instead < chosen:
            return f"update.gradient_checkpointing=true takes {gib(instead)}"
        room = self.memory - sum(line.update for line in self._static())
        fits = int(self.tokens * room / chosen) // 1024 * 1024
        if fits < 1024:
            return f"no update.max_tokens helps alone; split the rest (--processes {2 * self.processes}{self.sharding})"
        return f"update.max_tokens={fits} would do, for trees that are no larger"

    def _local_engine(self) -> Iterator[Line]:
        """Keys and values of the running sequences, kept ones, and the logits of a step."""
        if self.config.engine.kind != "local":
            return
        config, value = self.config, self.trained.dtype.itemsize
        rows = min(config.rollout.max_batch, max(self.step.trees * self.step.leaves, config.eval.batch))
        columns = -(-self.step.path // _COLUMNS) * _COLUMNS
        each = kv_bytes_per_token(self.sizes, value) * columns
        room = self.memory - sum(line.rollout for line in self._static()) - _PREFIX_CACHE
        fits = max(0, room // (2 * each))
        remedy = f"rollout.max_batch={fits} would do" if fits else "engine.kind=sglang"
        note = f"{rows} paths of {columns:,} tokens, twice while they grow"
        yield Line("keys and values", 2 * rows * each, rows * each, note, remedy)
        yield Line("kept prefixes", _PREFIX_CACHE, _PREFIX_CACHE, "at most")
        logits = rows * self.sizes.vocab_size * (16 + value)
        yield Line("logits of a step", logits, 0, "float32, sums in float64", f"rollout.max_batch={max(1, fits // 2)}")

    def _notes(self, activations: Line) -> tuple[str, ...]:
        step, limit = self.step, self.config.update.max_tokens
        if step.tree <= limit:
            return ()
        size = gib(activations.update * step.tree / self.tokens)
        return (
            f"a tree can have {step.tree:,} packed tokens; one with more than update.max_tokens ({limit:,}) is "
            f"forwarded alone, and the largest would take about {size} of activations",
        )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(int(tensor.nbytes) for tensor in tensors)
