"""The GPU memory of an SGLang server that a run starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from at2po_agent.planning.model_sizes import kv_bytes_per_token
from at2po_agent.policy.architecture import outline
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import TrainConfig

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_FRACTION = 0.85  # where the configuration leaves it to SGLang, which decides by the GPU


@dataclass(frozen=True)
class Server:
    """One server's device; of several GPUs that hold it together (tensor parallelism) each one."""

    weights: int  # bytes, in the server's own dtype
    per_token: int  # bytes of keys and values
    share: int  # bytes that it takes for weights, keys and values: --mem-fraction-static
    path: int  # tokens of the longest path
    memory: int  # bytes of the device
    shares_device: bool  # with the trainer

    @property
    def tokens(self) -> int:
        """Tokens whose keys and values have room, shared prefixes once."""
        return max(0, self.share - self.weights) // self.per_token

    @property
    def refusal(self) -> str | None:
        """Why it cannot work, and what to change; None where it can."""
        if self.tokens >= self.path:
            return None
        gib = 2**30
        return (
            f"does not fit: of the {self.share / gib:.1f} GiB that a server takes (--mem-fraction-static), its weights "
            f"are {self.weights / gib:.1f} GiB, which leaves room for {self.tokens:,} tokens, and one path can have "
            f"{self.path:,}: split the server over GPUs (engine.launch.arguments: --tp-size), or raise the fraction"
        )

    def remedy(self, trainer: int) -> str:
        """The fraction that leaves the trainer's ``trainer`` bytes free while turns are sampled."""
        fits = max(0, self.memory - trainer) / self.memory
        return f"--mem-fraction-static {int(100 * fits) / 100:g} leaves room for the trainer"


def of_server(config: TrainConfig, sizes: PreTrainedConfig, path: int, memory: int) -> Server | None:
    """The servers that a run starts; None where the engine is another one. Of running ones (``engine.urls``) too.

    Args:
        config: of the run.
        sizes: of the model.
        path: tokens of the longest path.
        memory: bytes of each GPU.

    Raises:
        ConfigError: an argument of ``engine.launch`` is not a number.
    """
    import torch

    if config.engine.kind != "sglang":
        return None
    arguments = config.engine.launch.arguments
    named = _option(arguments, "--dtype") or "auto"
    bytes_per_value = 4 if named in ("float", "float32") else 2  # SGLang takes half precision by itself
    ranks = int(_number(arguments, "--tp-size", "--tensor-parallel-size", "--tp") or 1)
    values = sum(p.numel() for p in outline(sizes, torch.bfloat16).parameters())
    return Server(
        weights=values * bytes_per_value // ranks,
        per_token=kv_bytes_per_token(sizes, bytes_per_value) // ranks,
        share=int(memory * (_number(arguments, "--mem-fraction-static") or _FRACTION)),
        path=path,
        memory=memory,
        shares_device=config.engine.release_memory,
    )


def _number(arguments: Sequence[str], *names: str) -> float | None:
    for name in names:
        if (text := _option(arguments, name)) is not None:
            try:
                return float(text)
            except ValueError:
                raise ConfigError(f"engine.launch.arguments: {name} is {text!r}, not a number") from None
    return None


def _option(arguments: Sequence[str], name: str) -> str | None:
    """The value of option ``name``: the next word, or the text after its equals sign."""
    for given, following in zip(arguments, (*arguments, "")[1:], strict=True):
        if given == name:
            return following
        if given.startswith(f"{name}="):
            return given.partition("=")[2]
    return None
