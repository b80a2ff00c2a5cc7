"""The engine seam: what samples turns for a trainer, with the weights that the trainer publishes.

The trained model and the engine are two things. The model is a torch module that the trainer updates. The engine may be
that same module (``local``), or servers with a copy of its weights; ``publish`` is how they follow.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from at2po_agent.policy.base import CausalLM, Policy, Stats
from at2po_agent.settings import above, at_least

Result = TypeVar("Result")


@dataclass(frozen=True)
class LaunchConfig:
    """Servers that the run starts itself.

    In the words of ``command`` and ``stop`` and in the values of ``environment``, ``{model}``, ``{host}``, ``{port}``,
    ``{index}`` and ``{python}`` are filled in.
    """

    servers: int = at_least(1, 1)  # how many
    # Starts one server.
    command: str = "{python} -m sglang.launch_server --model-path {model} --host {host} --port {port}"
    arguments: tuple[str, ...] = ()  # added to the command, such as --mem-fraction-static and 0.5
    stop: str = ""  # command that ends the server, if `command` puts it into the background
    environment: dict[str, str] = field(default_factory=dict)  # variables, such as CUDA_VISIBLE_DEVICES: "{index}"
    host: str = "127.0.0.1"  # address that the servers listen on
    port: int = at_least(30000, 1)  # port of the first server; the others follow
    start_seconds: float = above(900.0, 0)  # longest time until a server answers with its first token


@dataclass(frozen=True)
class EngineConfig:
    """The engine that samples the turns of a run."""

    kind: Literal["local", "sglang"] = "local"  # local: the trained model itself, in this process
    cuda_graphs: bool = True  # capture decode steps of the local engine on a GPU, which saves launches
    urls: tuple[str, ...] = ()  # SGLang servers that are already running; none: the run starts its own
    router: str = ""  # URL of SGLang's router in front of all urls; it decides where a turn is sampled
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    sync: Literal["disk", "tensors", "distributed"] = "disk"  # how weights reach the servers after each step
    sync_address: str = "127.0.0.1"  # address at which the servers reach this host, for sync=distributed
    release_memory: bool = False  # free the servers' memory during the update, if both share a GPU
    patience: float = above(600.0, 0)  # seconds that a step waits if no server answers
    timeout: float = above(600.0, 0)  # seconds without an answer after which a server counts as dead

    @property
    def reads_host_memory(self) -> bool:
        """Whether weights are taken from the host's memory, so that a GPU need not hold all of them."""
        return self.kind == "sglang" and self.sync != "distributed"


class Engine(Policy, Protocol):
    """A policy that follows a trained model.

    The trainer's order in every step is: ``generate`` until the trees are grown, ``release``, update the model,
    ``publish`` it under the next version. With ``train.staleness`` an engine on servers samples the next trees during
    the update, without ``release``, and ``publish`` waits until they are grown.

    Every process of a run has an engine. ``release``, ``publish`` and ``clear_cache`` are called by all of them at the
    same place, and may wait for each other there; the others are a process's own.
    """

    @property
    def version(self) -> int:
        """Of the weights that sample now; every completion carries the version that sampled it."""
        ...

    @property
    def stats(self) -> Stats:
        """Token counts since the engine was made."""
        ...

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine that calls ``generate``, a rollout say, on the event loop that suits the engine.

        An engine on servers has one loop, on a thread of its own. What ``work`` leaves on it, as a task, goes on beside
        the calling thread, until its end or ``close``.
        """
        ...

    def release(self) -> None:
        """No turn is sampled until the next ``publish``: give up memory that the update can use."""
        ...

    def publish(self, model: CausalLM, version: int) -> None:
        """Sample with the weights of ``model`` from now on, and forget all cached states.

        Raises:
            PolicyError: turns are being sampled, or the engine cannot hold this model.
            PolicyUnavailable: the engine cannot be reached.
        """
        ...

    def clear_cache(self) -> None:
        """Forget all cached states, so that what follows does not depend on what was sampled before.

        Raises:
            PolicyError: turns are being sampled.
        """
        ...

    def close(self) -> None:
        """Stop sampling and release everything; the trained model stays."""
        ...
