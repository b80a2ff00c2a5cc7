"""Credit and objective alone, in a loop of your own: plain torch, a transformers model, ATPO on a batch of ids.

The batch is what other frameworks have: ids, a mask of what the model wrote, log-probabilities of the sampler, rewards.
Turns are the runs of ones in the mask; a turn that two trajectories share counts as one in each.
"""

import torch
from torch import Tensor

from at2po_agent import ATPO, LossInputs
from at2po_agent.method.credit import z_scores
from at2po_agent.policy.loading import load_policy, resolve_policy


def turns_of(mask: Tensor) -> Tensor:
    """Number the turns of a batch: [B, T] of 0 and 1 → [B, T] int64, counted on from row to row; −1 between them."""
    begins = mask.bool() & ~torch.nn.functional.pad(mask, (1, 0))[:, :-1].bool()
    return torch.where(mask.bool(), begins.flatten().cumsum(0).view_as(mask) - 1, -1)


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
    mask = torch.zeros_like(ids)
    mask[:, 6:12] = mask[:, 15:21] = 1  # prompt, turn, result, turn, padding
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0])
    with torch.no_grad():
        logp_old = logprobs(model, ids)

    written, sequences = mask.bool(), torch.arange(len(ids))[:, None].expand_as(ids)
    advantage = torch.from_numpy(z_scores(rewards.numpy(), "unbiased")).float()[:, None].expand_as(ids)
    objective = ATPO(eps_low=3e-3, eps_high=4e-3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    for step in range(3):
        logp = logprobs(model, ids)
        inputs = LossInputs(
            logp=logp[written],
            logp_old=logp_old[written],
            advantage=advantage[written],
            sequence_ids=sequences[written],
            turn_ids=turns_of(mask)[written],
            n_sequences=len(ids),
            n_tokens=int(mask.sum()),
        )
        outputs = objective(inputs)
        optimizer.zero_grad()
        torch.autograd.backward(outputs.loss)
        optimizer.step()
        print(f"step {step}: loss {outputs.loss.item():+.4f}, clipped {outputs.metrics['clip_fraction']:.0%}")


if __name__ == "__main__":
    main()
