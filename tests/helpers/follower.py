"""What a process does that ``Followers`` started in a test: ``python -m tests.helpers.follower WHAT PORT RANK``."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from at2po_agent.update.local_processes import Followers, follow


def led(what: str) -> list[str]:
    """The command of a follower that does ``what``."""
    return [sys.executable, "-m", "tests.helpers.follower", what]


def main(what: str, port: str, rank: str) -> None:
    if what == "lead":  # here not a rank, but a file for the follower's process id
        with Followers(2, led("wait")) as followers, followers.joined() as processes:
            Path(rank).write_text(str(processes.gather(os.getpid())[1]))
            time.sleep(600)
    if what == "break":
        sys.exit(7)
    with follow(int(port), int(rank)) as processes:
        if processes is None:
            sys.exit(0)
        processes.gather(os.getpid())
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "wait":
            time.sleep(600)  # longer than the first process wants to wait


if __name__ == "__main__":
    main(*sys.argv[1:])
