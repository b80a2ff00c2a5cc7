"""The whole method by hand: grow one tree, credit its turns, do one ATPO update, print the tree."""

import asyncio

import gymnasium
from rich.console import Console

import at2po_env  # noqa: F401 (registers the environment ids)
from at2po_agent.method.algorithms import build
from at2po_agent.policy.loading import resolve_policy
from at2po_agent.policy.local.policy import LocalPolicy
from at2po_agent.rollouts.grow import Actor, grow
from at2po_agent.training.stored_trees import render, tree_record
from at2po_agent.update.packing import Credited
from at2po_agent.update.schedule import UpdateConfig
from at2po_agent.update.updater import Updater
from at2po_env.search_qa import SearchQAEnv


def main() -> None:
    """Run the story."""
    # An environment to search in, and a policy that samples turns of token ids.
    env = gymnasium.make("AT2PO-MicroWiki-v0", dialect="bare", k=1, max_searches=4).unwrapped
    assert isinstance(env, SearchQAEnv)
    policy = LocalPolicy.from_pretrained(resolve_policy("builtin:microwiki"))
    env.reset(options={"question_id": env.questions[3].id})

    # (1) Expansion: four chains, then twice the two most uncertain turns are sampled again: 4 + 2·2 = 8 leaves.
    method = build("at2po", expansion={"chains": 4, "per_round": 2, "rounds": 2})
    actor = Actor(policy, policy.codec)
    tree = asyncio.run(grow(env, actor, method.expansion, question_id=env.questions[3].id))

    # (2) Credit: the leaves' rewards, carried back to every turn.
    rewards = {leaf: tree[leaf].reward or 0.0 for leaf in tree.leaves}
    advantages = method.credit(tree, rewards)

    # (3) Objective: one step with the turn-level ratio and clip; every token of the tree is forwarded once.
    updater = Updater(policy.model, method.objective, UpdateConfig(lr=1e-4, mini_batch=1))
    metrics = updater.update([Credited(tree, advantages)])
    policy.clear_cache()  # its keys and values are of the weights before the update

    question = env.questions[3]
    record = tree_record(
        tree,
        question=question.question,
        answers=question.answers,
        advantages=advantages,
        values=None,
        decode=policy.codec.decode_action,
    )
    console = Console()
    console.print(render(record))
    console.print({name: round(value, 6) for name, value in sorted(metrics.items())})
    policy.close()


if __name__ == "__main__":
    main()
