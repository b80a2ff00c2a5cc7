"""The other processes of a run on the CPUs of one host, which the command starts: ``processes`` in a configuration.

On Linux they are forked from the first process, if that has imported everything and computed nothing, so that no import
is done twice; otherwise they start afresh. They end with the first process, however that ends, SIGKILL included. They
do not get Ctrl-C of the terminal, but stop where the first process does.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from at2po_agent.update.processes import Processes, ProcessLost, joined_at

Start = Literal["fork", "spawn"]

_HOST = "127.0.0.1"
_READY = "at2po/ready/{}"  # key of the store by rank: that a process has begun
_LOOK_S = 0.02  # between two looks at processes that start
_END_S = 2.0  # in which all end that the first process has left


def best_start() -> Start:
    """A fork where it is safe. Ask before anything is imported that computes: torch cannot be forked after it has."""
    return "fork" if sys.platform == "linux" and "torch" not in sys.modules else "spawn"


@contextmanager
def started(
    count: int,
    follow: Callable[..., None],
    *arguments: Any,
    start: Start = "spawn",
) -> Iterator[Processes]:
    """Start all processes of a run but the first, which is this one, and join them; they end where the context ends.

    Args:
        count: of all processes.
        follow: what the others do: it is called with a context manager in which they have joined, and gives their
            ``Processes``. Import before what it needs, as a fork shares that.
        *arguments: for ``follow``, after the first.
        start: how a process is started: see ``best_start``. With "spawn" ``follow`` and ``arguments`` are pickled.

    Raises:
        ProcessLost: one ended before it had joined, or later; see ``processes.joined_at``.
    """
    context: Any = multiprocessing.get_context(start)
    # Bound before the others start, so that nobody else can take the port.
    with socket.create_server((_HOST, 0)) as server:
        port = server.getsockname()[1]
        others: list[BaseProcess] = [
            context.Process(target=_be, args=(port, rank, count, follow, arguments)) for rank in range(1, count)
        ]
        try:
            for other in others:
                other.start()
            with joined_at(_store(server, others), 0, count) as processes:
                yield processes
        finally:
            _end(others)


def _store(server: socket.socket, others: list[BaseProcess]) -> Any:
    """The store at which all meet, once the others are there."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    port = server.getsockname()[1]
    # It closes the socket that it listens on.
    store = TCPStore(_HOST, port, is_master=True, wait_for_workers=False, master_listen_fd=os.dup(server.fileno()))
    for rank, other in enumerate(others, start=1):
        while not store.check([_READY.format(rank)]):
            if not other.is_alive():
                raise ProcessLost(
                    f"process {rank + 1} of {len(others) + 1} ended while it started (exit status {other.exitcode}); "
                    "processes=1 trains without others"
                )
            time.sleep(_LOOK_S)
    return store


def _be(port: int, rank: int, count: int, follow: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Be one of the others."""
    os.setsid()  # Ctrl-C goes to the first process alone
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore(_HOST, port, is_master=False)
    store.set(_READY.format(rank), "")
    follow(joined_at(store, rank, count), *arguments)


def _end_with_the_first() -> None:
    """Wait until the first process is gone, and end at once, as nothing here is to be saved."""
    first = multiprocessing.parent_process()
    if first is not None:
        wait([first.sentinel])
    os._exit(1)


def _end(others: list[BaseProcess]) -> None:
    begun, until = [other for other in others if other.pid is not None], time.monotonic() + _END_S
    for other in begun:
        other.join(max(0.0, until - time.monotonic()))  # it may have something to say
    for other in begun:
        other.kill()  # nothing there is to be saved
        other.join()
