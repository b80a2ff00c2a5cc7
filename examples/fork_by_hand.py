"""Fork one episode by hand and print its two futures.

Run it with ``python examples/fork_by_hand.py``: it needs no download and no model.
"""

from __future__ import annotations

import gymnasium

from at2po_env import SearchQAEnv


def main() -> None:
    """Search once, fork, and let one fork follow the plan while the other gives up too early."""
    env = gymnasium.make("at2po_env:AT2PO-MicroWiki-v0", split="dev", world="tiny", k=1, render_mode="ansi").unwrapped
    assert isinstance(env, SearchQAEnv)
    question = next(q for q in env.questions if q.metadata["hops"] == 2)
    env.reset(options={"question_id": question.id})
    first, second = question.metadata["plan"]

    env.step(f"<think>First things first.</think><search>{first}</search>")
    patient, hasty = env.fork(2)

    patient.step(f"<think>That is one half.</think><search>{second}</search>")
    *_, patient_info = patient.step(f"<think>Now I know.</think><answer>{question.answers[0]}</answer>")
    *_, hasty_info = hasty.step(f"<think>That will do.</think><answer>{question.metadata['chain'][0]}</answer>")

    for name, future, info in (("patient", patient, patient_info), ("hasty", hasty, hasty_info)):
        print(f"=== the {name} future: EM {info['em']:g} after {info['searches']} searches")
        for turn in future.state.turns():
            print(turn.text, *(segment.text for segment in turn.observation), sep="")
        print()

    shared = env.snapshot()
    print(f"Both grew from {shared.digest[:12]}, which still stands after {shared.depth} turn;")
    print(f"they share it in memory: {patient.state.parent.parent is hasty.state.parent is shared}.")  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
