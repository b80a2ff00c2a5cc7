"""What no engine can run, said before anything is sent or computed."""

from __future__ import annotations

from collections.abc import Sequence

from at2po_agent.policy.base import PolicyError, Request, Sampling


def check_requests(requests: Sequence[Request], sampling: Sampling, *, vocabulary: int, positions: int) -> None:
    """Refuse what the model cannot read or leaves it no room to write.

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
