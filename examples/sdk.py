"""The whole method by hand: grow one tree, credit its turns, do one ATPO update, print the tree."""

import gymnasium
from rich.console import Console

import at2po_agent as at2po
from at2po_env import SearchQAEnv


def main() -> None:
    """Run the story."""
    # An environment to search in, and a policy that samples turns of token ids.
    env = gymnasium.make("AT2PO-MicroWiki-v0", dialect="bare", k=1, max_searches=4).unwrapped
    assert isinstance(env, SearchQAEnv)
    policy = at2po.LocalPolicy.from_pretrained("builtin:microwiki")
    question = env.questions[3]
    env.reset(options={"question_id": question.id})

    # (1) Expansion: four chains, then twice the two most uncertain turns are sampled again: 4 + 2·2 = 8 leaves.
    method = at2po.build("at2po", expansion={"chains": 4, "per_round": 2, "rounds": 2})
    actor = at2po.Actor(policy, policy.codec)
    tree = at2po.run(at2po.grow(env, actor, method.expansion, question_id=question.id))

    # (2) Credit: the leaves' rewards, carried back to every turn.
    rewards = {leaf: tree[leaf].reward or 0.0 for leaf in tree.leaves}
    advantages = method.credit(tree, rewards)

    # (3) Objective: one step with the turn-level ratio and clip; every token of the tree is forwarded once.
    updater = at2po.Updater(policy.model, method.objective, at2po.UpdateConfig(lr=1e-4, mini_batch=1))
    metrics = updater.update([at2po.Credited(tree, advantages)])
    policy.clear_cache()  # its keys and values are of the weights before the update

    console = Console()
    console.print(at2po.render_tree(tree, env.task(question.id), advantages, policy.codec.decode_action))
    console.print({name: round(value, 6) for name, value in sorted(metrics.items())})
    policy.close()


if __name__ == "__main__":
    main()
