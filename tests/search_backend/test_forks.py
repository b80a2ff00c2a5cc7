"""What a forked process makes anew. Threads beside the fork are the point of these tests."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from functools import partial

import pytest

from search_backend import SearchUnavailable
from search_backend.base import was_closed
from search_backend.forks import ForkLock, PerProcess

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
FORK = multiprocessing.get_context("fork")


class Client:
    def __init__(self) -> None:
        self.process, self.closed = os.getpid(), 0

    def close(self) -> None:
        self.closed += 1


def run_in_fork(work) -> None:
    process = FORK.Process(target=work)
    process.start()
    process.join(20)
    assert process.exitcode == 0


def test_a_lock_excludes_threads_and_is_free_in_a_fork_and_for_its_holder():
    lock, held, release = ForkLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock, lock:
            held.set()
            release.wait(20)

    def take() -> None:
        with lock:
            taken.set()

    taken = threading.Event()
    holder, waiting = threading.Thread(target=hold), threading.Thread(target=take)
    holder.start()
    assert held.wait(20)
    waiting.start()
    run_in_fork(take)
    assert not taken.wait(0.05)
    release.set()
    holder.join()
    waiting.join()
    assert taken.is_set()


def test_every_process_makes_one_client_at_its_first_use():
    made: list[Client] = []

    def make() -> Client:
        made.append(Client())
        return made[-1]

    clients = PerProcess(make, partial(was_closed, "wiki"))
    assert made == []
    assert clients.get() is clients.get() is made[0]

    def in_fork() -> None:
        assert clients.get() is clients.get() is made[1]
        assert made[1].process == os.getpid() != made[0].process
        clients.close()
        assert [client.closed for client in made] == [0, 1]

    run_in_fork(in_fork)
    assert clients.get() is made[0]
    clients.close()
    clients.close()
    assert made[0].closed == 1
    with pytest.raises(SearchUnavailable, match="the backend wiki was closed"):
        clients.get()


def test_a_client_that_nobody_closes_is_closed_with_its_owner():
    client = Client()
    clients = PerProcess(lambda: client, partial(was_closed, "wiki"))
    assert clients.get() is client
    del clients
    gc.collect()
    assert client.closed == 1
