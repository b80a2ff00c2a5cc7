from __future__ import annotations

import os
import signal
import threading

from at2po_agent.commands.train import stopping


def test_signal_handlers_are_given_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop = threading.Event()
    with stopping(stop) as received:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
    assert received == [signal.SIGTERM]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
