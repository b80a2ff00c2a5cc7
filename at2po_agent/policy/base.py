"""The policy seam: token ids in, token ids and log-probabilities of what was sampled out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedConfig

from at2po_agent.errors import AgentError

Finish = Literal["stop", "eos", "length"]


class PolicyError(AgentError):
    """A policy cannot do what was asked; the message says what to change."""


class PolicyUnavailable(PolicyError):
    """The engine cannot be reached or died; trying again later may help."""


@dataclass(frozen=True)
class Sampling:
    """Sampling settings. Training needs the full distribution, so there is no top_p, top_k or min_p."""

    temperature: float = 1.0  # 0 is greedy; log-probabilities are then those of temperature 1
    stop: tuple[str, ...] = ()  # strings that end a turn; grow() fills in the environment's where none are given
    top_logprobs: int = 0  # how many of the most likely tokens to report at every position


@dataclass(frozen=True)
class Request:
    """One prompt to continue by one turn.

    ``key`` addresses the sampling noise: equal keys, prompts and weights give equal turns in deterministic mode,
    whatever else is in the batch. ``grow`` uses ``(seed, step, tree, path, turn)``.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    key: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """A sampled turn: its token ids as they were sampled, never re-tokenised.

    The token that completes a stop string, or the end-of-sequence token, is the last of ``ids``.
    ``logprobs[t]`` is ``log softmax(logits / T)`` at the sampling temperature.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]  # [len(ids)], nats
    finish: Finish
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = ()  # [len(ids)][top_logprobs] of (id, logprob)
    version: int = 0  # of the weights that sampled its first token
    straddles: bool = False  # the weights changed in the middle: ``logprobs`` are of more than one version


@dataclass
class Stats:
    """Tokens that the engine was asked to read, those that it had to compute, and those that it sampled."""

    prompt_tokens: int = 0
    prefilled_tokens: int = 0  # without padding; the rest of the prompts came from caches and twins
    generated_tokens: int = 0
    forwards: int = 0


class Policy(Protocol):
    """Anything that samples turns. Engines batch requests that are waiting at the same time, from any tree."""

    async def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Continue every prompt by one turn, results in the order of the requests.

        Raises:
            PolicyError: a prompt is empty, has an id outside the vocabulary, or leaves no room to generate.
            PolicyUnavailable: the engine cannot answer now.
        """
        ...


class CausalLMOutput(Protocol):
    """The output of a model's forward."""

    logits: Tensor  # [sequences, tokens, vocabulary]


class CausalLM(Protocol):
    """A causal language model of transformers, as far as engines, adapters and fits use one."""

    config: PreTrainedConfig
    name_or_path: str
    training: bool

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        ...

    def __call__(self, **inputs: Any) -> CausalLMOutput:
        """Forward ``input_ids`` and whatever else the model takes."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the weights, tied ones once."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the weights with their names, tied ones once."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """Yield the model and all modules in it."""
        ...

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the model and all modules in it with their names."""
        ...

    def get_input_embeddings(self) -> nn.Embedding:
        """Token ids to hidden states."""
        ...

    def get_output_embeddings(self) -> nn.Linear:
        """Hidden states to logits."""
        ...

    def train(self) -> object:
        """Switch dropout on."""
        ...

    def eval(self) -> object:
        """Switch dropout off."""
        ...

    def save_pretrained(self, folder: Path, *, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write a Hugging Face folder, of ``state_dict`` in place of the model's own weights."""
        ...


def check_requests(requests: Sequence[Request], sampling: Sampling, *, vocabulary: int, positions: int) -> None:
    """Validate the requests of a call before an engine runs them.

    Args:
        requests: of one call.
        sampling: theirs.
        vocabulary: token ids that the model has an embedding for.
        positions: tokens that a prompt and its turn may have together.

    Raises:
        PolicyError: one of them cannot be run; the message names it.
    """
    if sampling.temperature < 0 or sampling.top_logprobs < 0 or "" in sampling.stop:
        raise PolicyError(f"temperature and top_logprobs must be 0 or more, stop strings not empty: {sampling}")
    for request in requests:
        where = f"request {request.key}"
        if not request.prompt:
            raise PolicyError(f"{where}: the prompt is empty")
        if request.max_new_tokens < 1:
            raise PolicyError(f"{where}: max_new_tokens is {request.max_new_tokens}, at least 1 is needed")
        if min(request.prompt) < 0 or max(request.prompt) >= vocabulary:
            raise PolicyError(f"{where}: an id of the prompt is not among the model's {vocabulary} tokens")
        if len(request.prompt) + request.max_new_tokens > positions:
            raise PolicyError(
                f"{where}: a prompt of {len(request.prompt)} tokens and {request.max_new_tokens} new ones exceed "
                f"the model's {positions} positions: shorten the prompt or lower max_new_tokens"
            )
