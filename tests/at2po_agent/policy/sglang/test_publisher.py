"""Weights reach servers at every turn of events. The servers are doubled at the transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from at2po_agent.policy.base import PolicyError, PolicyUnavailable
from at2po_agent.policy.engine import EngineConfig
from at2po_agent.policy.sglang.launch import RunningServers
from at2po_agent.policy.sglang.publisher import Publisher
from at2po_agent.policy.sglang.weight_sync import DiskSync
from tests.at2po_agent.policy.sglang.test_engine import UPDATE, eventually
from tests.helpers.sglang_control import Controlled
from tests.helpers.sglang_double import serving
from tests.helpers.tiny_models import tiny


@contextmanager
def publishing(
    folder: Path, servers: Sequence[Controlled], note: Callable[[str], None] = lambda text: None, **options: Any
) -> Iterator[Publisher]:
    running = RunningServers([server.url for server in servers], note)
    config = EngineConfig(kind="sglang", patience=1.0, **options)
    with closing(Publisher(running, tiny(), DiskSync(folder), config)) as publisher:
        yield publisher


def test_every_version_has_a_label_of_the_run_that_the_servers_carry(tmp_path: Path) -> None:
    with serving(Controlled(tiny())) as server, publishing(tmp_path, [server]) as publisher:
        assert publisher.urls == (server.url,)
        run, version = publisher.label.split("-")
        assert (server.version, version) == (publisher.label, "0") and run
        assert publisher.publish(tiny(), 5) == publisher.label == server.version == f"{run}-5"
        assert server.calls == UPDATE * 2
    assert not list(tmp_path.glob("*"))  # nothing is left behind


def test_memory_is_given_up_for_the_update_and_taken_back_in_two_parts(tmp_path: Path) -> None:
    with serving(Controlled(tiny())) as server:
        with (
            pytest.raises(PolicyError, match="enable-memory-saver"),
            publishing(tmp_path, [server], release_memory=True),
        ):
            pass
        assert not server.calls
        server.memory_saver = True
        with publishing(tmp_path, [server], release_memory=True) as publisher:
            server.calls.clear()
            publisher.release()
            publisher.publish(tiny(), 1)
            assert server.calls == [
                "release_memory_occupation kv_cache+weights",
                "resume_memory_occupation weights",
                *UPDATE,
                "resume_memory_occupation kv_cache",
            ]
            server.calls.clear()
            publisher.publish(tiny(), 2)
            assert server.calls == UPDATE  # nothing was released


def test_without_release_memory_it_is_kept(tmp_path: Path) -> None:
    with serving(Controlled(tiny())) as server, publishing(tmp_path, [server]) as publisher:
        publisher.release()
        assert server.calls == UPDATE


def test_nobody_there_is_said_after_some_patience(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(serving(Controlled(tiny())))
        with publishing(tmp_path, [server]) as publisher:
            stack.close()
            with pytest.raises(PolicyUnavailable, match=rf"no server took the weights.*{server.url}"):
                publisher.publish(tiny(), 1)


def test_a_refusal_is_an_error_in_the_servers_words(tmp_path: Path) -> None:
    with serving(Controlled(tiny())) as server, publishing(tmp_path, [server]) as publisher:
        server.refuse["/update_weights_from_disk"] = 400
        with pytest.raises(PolicyError, match="not now"):
            publisher.publish(tiny(), 1)
        assert server.calls[-1] == "continue_generation"  # it is not left standing


def test_a_server_that_only_other_processes_miss_gets_the_weights_too(tmp_path: Path) -> None:
    with serving(Controlled(tiny())) as server, publishing(tmp_path, [server]):
        server.version = "default"  # started again, and nobody here samples from it
        eventually(lambda: server.version.endswith("-0"))


def test_a_server_that_refuses_the_weights_when_it_is_back_is_mentioned_once(tmp_path: Path) -> None:
    notes: list[str] = []

    def refuse(text: str) -> None:
        notes.append(text)
        if len(notes) == 1:
            server.refuse["/update_weights_from_disk"] = 400  # the second time too

    with serving(Controlled(tiny())) as server, publishing(tmp_path, [server], note=refuse):
        server.refuse["/update_weights_from_disk"] = 400
        server.version = "default"
        eventually(lambda: server.version.endswith("-0") and len(notes) > 1)
    assert ["is not used" in note for note in notes] == [True, False] and notes[1].endswith("has the weights again")
