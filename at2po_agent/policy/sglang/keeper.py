"""Run a server and end it when the trainer dies.

    python -m at2po_agent.policy.sglang.keeper [--stop WORD … --] WORD …

Standard input is a pipe from the trainer. However the trainer ends, SIGKILL included, the pipe closes, and the keeper
ends the server's process group: SIGTERM first, SIGKILL after ``GRACE_S``. A command that puts its server into the
background, and so ends with status 0, needs a second command, ``--stop``, that ends it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from types import FrameType

GRACE_S = 20.0
_LOOK_S = 0.2  # between two looks at the child


def main(words: list[str]) -> int:
    """Keep one command until it ends or standard input does; the status that it ended with."""
    stop: list[str] = []
    if words[0] == "--stop":
        at = words.index("--")
        stop, words = words[1:at], words[at + 1 :]
    signalled: list[int] = []

    # It raises nothing: an exception in the middle of ``Popen`` would leave a child that nobody knows.
    def remember(number: int, frame: FrameType | None) -> None:
        signalled.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, remember)
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait(child, signalled, in_background=bool(stop))
    finally:
        _end(child)
        if stop:
            with suppress(subprocess.TimeoutExpired):
                subprocess.run(stop, stdin=subprocess.DEVNULL, check=False, timeout=GRACE_S)
    if signalled:
        return 128 + signalled[0]
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _wait(child: subprocess.Popen[bytes], signalled: list[int], in_background: bool) -> None:
    """Until the trainer closes the pipe, a signal asks to end, or the server is gone."""
    while not signalled and (child.poll() is None or (in_background and child.returncode == 0)):
        readable, _, _ = select.select([0], [], [], _LOOK_S)
        if readable and not os.read(0, 1):
            return


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # nothing of the group is left
        os.killpg(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
