"""The other processes of a run on this host, which the command starts itself: ``processes`` in a configuration.

They load torch at the same time as the first process, and then meet it at a socket that it has opened for them. The
standard input of each is a pipe from the first process: however that ends, SIGKILL included, the pipe closes, and they
end. They do not get Ctrl-C of the terminal, but stop where the first process does.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from at2po_agent.update.processes import ONE, Processes, ProcessLost, joined_at

_HOST = "127.0.0.1"
_COUNT = "at2po/count"  # key of the store: how many processes the run has
_READY = "at2po/ready/{}"  # likewise, by rank: that it has loaded torch
_LOOK_S = 0.02  # between two looks at processes that start
_END_S = 5.0  # in which a process ends whose pipe is closed


class Followers:
    """All processes of a run but the first. A context manager that starts them at once, and ends them."""

    def __init__(self, most: int, command: Sequence[str]) -> None:
        """Start ``most - 1`` processes.

        Args:
            most: processes of the run, the first one included; on a host with GPUs, those beyond their number are not
                taken in.
            command: what they run, with two more words, a port and their rank: it calls ``follow`` with both.
        """
        self._most = most
        self._socket = socket.create_server((_HOST, 0))
        self._port = self._socket.getsockname()[1]
        self._children = [
            subprocess.Popen(
                [*command, str(self._port), str(rank)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            for rank in range(1, most)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()
        for child in self._children:
            if child.stdin:
                child.stdin.close()
        for child in self._children:
            try:
                child.wait(_END_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    @contextmanager
    def joined(self) -> Iterator[Processes]:
        """Join all, as the first process, once each has loaded torch; see ``processes.joined`` for what ends them.

        Raises:
            ProcessLost: one ended while it loaded, or later.
        """
        import torch
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        gpus = torch.cuda.device_count()
        count = min(self._most, gpus) if gpus else self._most
        if count == 1:
            yield ONE
            return
        listening = self._socket.detach()  # the store closes it
        store = TCPStore(_HOST, self._port, is_master=True, wait_for_workers=False, master_listen_fd=listening)
        store.set(_COUNT, str(count))
        for rank, child in enumerate(self._children[: count - 1], start=1):
            while not store.check([_READY.format(rank)]):
                if child.poll() is not None:
                    raise ProcessLost(
                        f"process {rank} of {count}, which this one started, ended while it was loading (exit status "
                        f"{child.returncode}); what it printed is above. processes=1 trains without it"
                    )
                time.sleep(_LOOK_S)
        with joined_at(store, 0, count) as processes:
            yield processes


@contextmanager
def follow(port: int, rank: int) -> Iterator[Processes | None]:
    """Join the process that started this one; None where the run goes on without it.

    Args:
        port: where the first process listens.
        rank: this one's, from 1.
    """
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore(_HOST, port)
    count = int(store.get(_COUNT))
    if rank >= count:
        yield None
        return
    store.set(_READY.format(rank), "")
    with joined_at(store, rank, count) as processes:
        yield processes


def _end_with_the_first() -> None:
    """Wait until the first process closes the pipe, by ending too; then end at once, as nothing here is to be saved."""
    with suppress(OSError):
        while os.read(sys.stdin.fileno(), 1):
            pass
    os._exit(128 + signal.SIGTERM)
