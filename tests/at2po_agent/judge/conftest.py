"""Servers that answer by a script, closed when the test ends."""

import pytest

from tests.at2po_agent.judge.chat_server import ChatServer


@pytest.fixture
def serve():
    """A function that starts a server with a script."""
    made: list[ChatServer] = []

    def start(script, keep: bool = True) -> ChatServer:
        made.append(ChatServer(script, keep))
        return made[-1]

    yield start
    for server in made:
        server.close()
