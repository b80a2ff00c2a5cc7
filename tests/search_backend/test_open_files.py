"""The limit of open files is named as that."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import aiohttp
import pytest

import search_backend
from at2po_agent.commands import main as cli
from at2po_agent.judge.config import LimitConfig, ModelConfig
from at2po_agent.judge.endpoint.client import Call, ChatEndpoint
from at2po_agent.judge.endpoint.refusals import EndpointError
from at2po_agent.policy.base import PolicyUnavailable
from at2po_agent.policy.sglang.admin import SglangAdmin
from at2po_agent.policy.sglang.server import Server
from search_backend import SearchUnavailable
from search_backend.elastic.address import parse_address
from search_backend.elastic.link import Link
from search_backend.open_files import limit_reached

SAYS = r"too many open files: a process may have [\d,]+ \(ulimit -n\); raise that with"


@contextmanager
def no_file_left() -> Iterator[None]:
    """No further file can be opened inside."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as held:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        try:
            while True:
                held.enter_context(open("/dev/null"))
        except OSError:
            pass
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_other_errors_are_not_about_it() -> None:
    assert limit_reached(ValueError()) is None and limit_reached(FileNotFoundError(2, "none")) is None


@pytest.mark.fault("item 29: ulimit -n reached is named as that, by a command")
def test_a_command_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("env: {id: AT2PO-MicroWiki-v0}\npolicy: {path: 'builtin:microwiki'}\n")
    assert cli.main(["train", "--cfg", str(file), "--print-config"]) == 0
    capsys.readouterr()
    with no_file_left():
        assert cli.main(["train", "--cfg", str(file), "--print-config"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "too many open files" in line and "ulimit -n" in line


@pytest.mark.fault("item 29: ulimit -n reached is named as that, by SGLang's client")
def test_a_policy_names_it() -> None:
    async def ask() -> None:
        async with aiohttp.ClientSession() as session:
            server = Server("http://127.0.0.1:9", session, 5)
            with no_file_left():
                await server.weight_version()

    with pytest.raises(PolicyUnavailable, match=SAYS):
        asyncio.run(ask())


@pytest.mark.fault("item 29: ulimit -n reached is named as that, by SGLang's client")
def test_the_control_of_a_server_names_it() -> None:
    with no_file_left(), pytest.raises(PolicyUnavailable, match=SAYS):
        SglangAdmin("http://127.0.0.1:9", timeout=5).ranks()


@pytest.mark.fault("item 29: ulimit -n reached is named as that, by a search")
def test_a_search_service_names_it() -> None:
    with closing(search_backend.open("http://127.0.0.1:9/retrieve?retries=0")) as service:
        with pytest.raises(SearchUnavailable, match="no connection"):
            service.search(["q"], 1)
        with no_file_left(), pytest.raises(SearchUnavailable, match=SAYS):
            service.search(["q"], 1)


@pytest.mark.fault("item 29: ulimit -n reached is named as that, by a search")
def test_elasticsearch_names_it() -> None:
    address = parse_address("elasticsearch://127.0.0.1:9/wiki?retries=0")
    with closing(Link(address, "wiki", sharded=False)) as link:
        with pytest.raises(SearchUnavailable, match="no connection"):
            link.run(link.ask([{"size": 1}])).result()
        with no_file_left(), pytest.raises(SearchUnavailable, match=SAYS):
            link.run(link.ask([{"size": 1}])).result()


@pytest.mark.fault("item 29: ulimit -n reached is named as that, by an evaluation's client")
def test_a_chat_endpoint_names_it() -> None:
    call = Call(messages=({"role": "user", "content": "hello"},), max_tokens=1)
    limits = LimitConfig(retries=0, wait_seconds=0.1)

    async def ask() -> None:
        async with ChatEndpoint(ModelConfig("m", "http://127.0.0.1:9/v1"), limits) as endpoint:
            with pytest.raises(EndpointError, match="cannot be reached"):
                await endpoint.complete(call)
            with no_file_left():
                await endpoint.complete(call)

    with pytest.raises(EndpointError, match=SAYS):
        asyncio.run(ask())
