"""Check that a server samples from the distribution that it reports, and from the right model.

A server reports the log-probabilities of ``softmax(logits / T)``, which is what is sampled. With
``SGLANG_RETURN_ORIGINAL_LOGPROB=1`` in its environment they are those of T = 1 at every temperature, and every
importance ratio of a run would silently be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from at2po_agent.policy.base import CausalLM, PolicyError, Request, Sampling
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.sglang.server import Answer, Server, sampling_params
from at2po_env.state import Segment

_TOKENS = 8  # most likely ones that a server is asked for
_KNOWN_TOKENS = 4  # of the trained model; few enough that all of them are among the server's most likely ones
_TEMPERATURE = 0.5
_TOLERANCE = 0.05  # nats, of differences between tokens; half precision stays below
_TEXT = (Segment("The quick brown fox jumps over the lazy", data=False),)


@dataclass(frozen=True)
class KnownPrompt:
    """The trained model's vocabulary and its answer to a prompt, which a server must give too."""

    prompt: tuple[int, ...]
    logprobs: tuple[tuple[int, float], ...]  # (id, logprob) of its most likely next tokens at T = 1, nats
    tolerance: float = 0.1  # nats; other kernels in half precision differ by less, other models by more
    vocabulary: int | None = None  # token ids that it has an embedding for; None: those of the tokenizer


def known_ids(codec: Codec) -> tuple[int, ...]:
    """A prompt to compare models by."""
    return codec.observation(_TEXT)


async def check_distribution(server: Server, codec: Codec, known: KnownPrompt | None) -> None:
    """Refuse a server whose log-probabilities cannot be trained on.

    Raises:
        PolicyError: they are not those of the sampling distribution, or not those of the known model.
        PolicyUnavailable: the server does not answer.
    """
    prompt = known.prompt if known else known_ids(codec)
    plain = await _next(server, prompt, 1.0)
    cold = await _next(server, prompt, _TEMPERATURE)
    shared = [i for i in plain if i in cold]
    for i in shared:
        difference = (cold[i] - cold[shared[0]]) - (plain[i] - plain[shared[0]]) / _TEMPERATURE
        if abs(difference) > _TOLERANCE:
            raise PolicyError(
                f"{server.url} reports log-probabilities that are not those of the temperature it samples at: start it "
                "without SGLANG_RETURN_ORIGINAL_LOGPROB"
            )
    if known is None:
        return
    for i, logprob in known.logprobs:
        if abs(plain.get(i, -1e9) - logprob) > known.tolerance:
            raise PolicyError(
                f"{server.url} serves another model than the one that is trained: after a known prompt it gives token "
                f"{i} the log-probability {plain.get(i, 'below its first ' + str(_TOKENS))}, not {logprob:.4f}"
            )


async def _next(server: Server, prompt: tuple[int, ...], temperature: float) -> dict[int, float]:
    sampling = Sampling(temperature, top_logprobs=_TOKENS)
    params = sampling_params(Request(prompt, 1, ()), sampling, (), None)
    answer: Answer = await server.generate(prompt, params, top_logprobs=_TOKENS)
    return dict(answer.top_logprobs[0])


def known_prompt(model: CausalLM, codec: Codec) -> KnownPrompt:
    """Forward the prompt that servers are asked about, and take the most likely next tokens."""
    import torch

    prompt = known_ids(codec)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt], device=model.device), use_cache=False).logits[0, -1]
    values, ids = torch.log_softmax(logits.float(), dim=-1).topk(_KNOWN_TOKENS)
    logprobs = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return KnownPrompt(prompt, logprobs, vocabulary=model.get_input_embeddings().num_embeddings)
