"""How a command ends: what it prints of an error, and its exit status."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

from at2po_agent.errors import AgentError
from at2po_agent.signals import Interrupted
from at2po_agent.terminal import say, say_error
from at2po_agent.update.processes import EndedElsewhere
from search_backend.open_files import limit_reached

PROGRAM = "at2po-agent"
_NO_READER = 128 + signal.SIGPIPE  # whoever read the output has had enough, as ``head`` has


def status_of(work: Callable[[], int]) -> int:
    """Do ``work`` and return the exit status, as ``main.main`` lists them; a foreseen error is a line on stderr."""
    try:
        return work()
    except KeyboardInterrupt:
        say(f"{PROGRAM}: interrupted", error=True)
        return 128 + signal.SIGINT
    except Interrupted as error:
        say(f"{PROGRAM}: {error}", error=True)
        return 128 + error.number
    except EndedElsewhere:
        return 2
    except BrokenPipeError:
        if not _is_closed(sys.stdout):
            raise
        return _NO_READER
    except Exception as error:
        if limit := limit_reached(error):
            say(f"{PROGRAM}: error: {limit}", error=True)
            return 2
        if not isinstance(error, AgentError) and not isinstance(error, _foreseen()):
            raise
        say_error(PROGRAM, error)
        return 2


def leave(status: int) -> NoReturn:
    """End the process without taking it apart: destroying all that torch has loaded takes two seconds."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream:  # None where it was closed when the process began
                stream.flush()
    except BrokenPipeError:
        status = _NO_READER
    os._exit(status)


def _is_closed(stream: TextIO) -> bool:
    """Whether a stream is a pipe that nobody reads any more."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError):  # no file, as in a notebook
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _foreseen() -> tuple[type[Exception], ...]:
    """Errors of the packages below whose message is for the user; imported only when something went wrong."""
    import gymnasium

    from at2po_env import EnvError
    from search_backend.base import SearchError

    return EnvError, SearchError, gymnasium.error.Error
