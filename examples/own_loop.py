"""Credit and objective alone, in a loop of your own: plain torch, a transformers model, ATPO on a batch of ids.

The batch is what other frameworks have: ids, a mask of what the model wrote, log-probabilities of the sampler, rewards.
Turns are the runs of ones in the mask.
"""

import torch
from torch import Tensor

from at2po_agent.integrations import padded_advantages, turn_loss
from at2po_agent.policy.loading import load_policy, resolve_policy


def logprobs(model: torch.nn.Module, ids: Tensor) -> Tensor:
    """Log-probability of every id after the ones before it, [B, T] nats; 0 for the first."""
    logits = model(input_ids=ids).logits[:, :-1].float()
    picked = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    return torch.nn.functional.pad(picked, (1, 0))


def main() -> None:
    """Three steps on four made-up trajectories of two turns each."""
    torch.manual_seed(0)
    model, codec = load_policy(resolve_policy("builtin:microwiki"))
    ids = torch.randint(0, codec.vocab_size, (4, 24))
    ids[:, :6] = ids[0, :6]  # one prompt
    mask = torch.zeros_like(ids)
    mask[:, 6:12] = mask[:, 15:21] = 1  # prompt, turn, result, turn, padding
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0])
    with torch.no_grad():
        logp_old = logprobs(model, ids)

    advantages = padded_advantages(rewards, mask, ["the one prompt"] * len(ids), ids, logp_old)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    for step in range(3):
        logp = logprobs(model, ids)
        loss, metrics = turn_loss(logp, logp_old, advantages, mask)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        print(f"step {step}: loss {loss.item():+.4f}, clipped {metrics['clip_fraction']:.0%}")


if __name__ == "__main__":
    main()
