"""An episode as chat messages, which is how an endpoint that takes no tokens reads it."""

from __future__ import annotations

from at2po_env.dialect import Dialect
from at2po_env.state import EpisodeState, plain


def messages(dialect: Dialect, state: EpisodeState) -> list[dict[str, str]]:
    """The episode so far as ``{"role", "content"}`` messages, to be answered with the next turn.

    In a dialect with ``as_messages`` turns and observations alternate as messages of assistant and user. In an inline
    one all turns and observations are one assistant message, which the endpoint has to continue instead of answering.
    """
    said = [{"role": "user", "content": plain(dialect.prompt(state.question.question))}]
    for turn in state.turns():
        observation = plain(turn.observation)
        if dialect.as_messages or said[-1]["role"] == "user":
            said.append({"role": "assistant", "content": ""})
        said[-1]["content"] += turn.text
        if dialect.as_messages and observation:
            said.append({"role": "user", "content": observation})
        else:
            said[-1]["content"] += observation
    return said
