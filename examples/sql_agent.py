"""A database agent's episode by hand: look at the schema, then ask by the names it shows and by names one would guess.

Run it as it is. The same task trains a policy: docs/own_environment.md says how.
"""

from __future__ import annotations

import gymnasium

import at2po_env  # noqa: F401 (registers the environment)
from envs.microsql import MicroSQL
from envs.microsql_database import USUAL
from envs.microsql_play import LOOK, statement


def main() -> None:
    """Play a question of two hops, and go two ways on from the schema."""
    env = gymnasium.make("AT2PO-MicroSQL-v0", split="test", world="tiny", dialect="bare").unwrapped
    assert isinstance(env, MicroSQL)
    question = next(task for task in env.tasks if env.task(task).group == "2 hops")
    env.reset(options={"task_id": question})
    env.step(f"<sql>{LOOK}</sql>")
    for fork, names in zip(env.fork(2), (env.schema(question), USUAL), strict=True):
        thing, relations = env.plan(question)
        for relation in relations:
            result = fork.step(f"<sql>{statement(names, relation, thing)}</sql>")[0]
            thing = result.removeprefix("<result> ").removesuffix(" </result>").strip("'")
        fork.step(f"<answer>{thing}</answer>")
        fork.render_mode = "ansi"
        print(fork.render(), end="\n\n")


if __name__ == "__main__":
    main()
