"""What processes do that ``started`` starts in a test; ``python -m tests.helpers.follower FILE`` starts one."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from at2po_agent.update.local_processes import started
from at2po_agent.update.processes import Processes

Joining = AbstractContextManager[Processes]


def stay(joining: Joining) -> None:
    """Longer than the first process wants to."""
    with joining as processes:
        processes.gather((os.getpid(), os.getsid(0)))
        time.sleep(600)


class EndsWhileLoaded:
    """Ends the process that unpickles it, as one is ended for want of memory while it loads."""

    def __call__(self, joining: Joining) -> None: ...

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (7,)


def die(joining: Joining) -> None:
    with joining as processes:
        processes.gather(os.getpid())
        os.kill(os.getpid(), signal.SIGKILL)


def main(file: str) -> None:
    """Write the other process's id to ``file``, and stay."""
    with started(2, stay) as processes:
        Path(file).write_text(str(processes.gather(None)[1][0]))
        time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
