"""Control calls to a server: what is sent, what is made of answers, and which errors may pass."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings

from at2po_agent.policy.base import PolicyError, PolicyUnavailable
from at2po_agent.policy.sglang.admin import SglangAdmin
from tests.helpers.hostile_json import with_one_part_replaced
from tests.helpers.servers import free_port
from tests.helpers.sglang_control import Controlled
from tests.helpers.sglang_double import serving
from tests.helpers.tiny_models import tiny


class Plain(Controlled):
    """Two more calls, which answer as some of SGLang's do."""

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_get("/list", self.list)
        app.router.add_get("/words", self.words)
        app.router.add_get("/trickle/{status}", self.trickle)
        return app

    async def list(self, request: web.Request) -> web.Response:
        return web.json_response([1, 2])

    async def trickle(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=int(request.match_info["status"]))
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.1)

    async def words(self, request: web.Request) -> web.Response:
        return web.Response(text="Cache flushed.")


@pytest.fixture
def server() -> Iterator[Plain]:
    with serving(Plain(tiny())) as server:
        yield server


def test_a_server_says_how_it_is(server: Plain) -> None:
    admin = SglangAdmin(server.url + "/")
    assert admin.healthy()
    assert admin.ranks() == 2 and not admin.has_memory_saver()
    server.version = "run-7"
    assert admin.weight_version() == "run-7"
    admin.flush_cache()
    assert server.flushes == 1


def test_it_goes_on_after_a_pause_whatever_happened_inside(server: Plain) -> None:
    admin = SglangAdmin(server.url)
    with admin.paused():
        assert server.calls == ["pause_generation"] and server.bodies == [{"mode": "retract"}]
    with pytest.raises(KeyError), admin.paused():
        raise KeyError
    assert server.calls == ["pause_generation", "continue_generation"] * 2


def test_memory_is_taken_back_in_two_parts(server: Plain) -> None:
    admin = SglangAdmin(server.url)
    admin.release_memory()
    admin.resume_weights()
    admin.resume_cache()
    assert server.calls == [
        "release_memory_occupation kv_cache+weights",
        "resume_memory_occupation weights",
        "resume_memory_occupation kv_cache",
    ]


def test_an_answer_without_an_object_is_an_empty_one(server: Plain) -> None:
    assert SglangAdmin(server.url).call("/list") == SglangAdmin(server.url).call("/words") == {}


@pytest.mark.parametrize(("status", "passes"), [(400, False), (503, True)])
def test_a_refusal_is_told_from_trouble_that_passes(server: Plain, status: int, passes: bool) -> None:
    server.refuse["/pause_generation"] = status
    with pytest.raises(PolicyError, match=rf"/pause_generation answered {status}: .*not now") as caught:
        SglangAdmin(server.url).call("/pause_generation", {})
    assert isinstance(caught.value, PolicyUnavailable) == passes


@pytest.mark.fault("R4: a body that never ends")
@pytest.mark.parametrize("status", [200, 503])
def test_an_answer_that_trickles_in_has_a_deadline(server: Plain, status: int) -> None:
    started = time.monotonic()
    with pytest.raises(PolicyUnavailable, match="no complete answer in time" if status == 200 else "answered 503"):
        SglangAdmin(server.url, timeout=0.5).call(f"/trickle/{status}")
    assert time.monotonic() - started < 5


@pytest.mark.fault("R4: a body that never ends")
def test_an_answer_has_a_bound(server: Plain) -> None:
    server.says = " " * (16 * 1024 * 1024 + 1)
    with pytest.raises(PolicyUnavailable, match="answered more than 16,777,216 bytes"):
        SglangAdmin(server.url).weight_version()


def test_a_server_that_is_not_there_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(PolicyUnavailable, match=f"{url} cannot be reached: .*refused"):
        SglangAdmin(url).ranks()
    assert not SglangAdmin(url).healthy()


def test_a_proxy_for_the_web_is_not_asked(server: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert SglangAdmin(server.url).healthy()


INFO = {"weight_version": "run-1", "max_req_input_len": 250, "enable_deterministic_inference": False}
INFO |= {"enable_memory_saver": True, "tp_size": 2, "success": True, "message": "done"}


@pytest.mark.fault("item 23: what SGLang says of itself, of which one part is something else")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example({**INFO, "tp_size": "x"})
@example({**INFO, "tp_size": 10**9})
@example({**INFO, "enable_memory_saver": "no"})
@example({**INFO, "weight_version": [1]})
@example({**INFO, "success": False})
@given(told=with_one_part_replaced(INFO))
def test_whatever_a_server_says_of_itself_is_used_or_is_an_error(server: Plain, told: Any) -> None:
    server.says = json.dumps(told)
    admin = SglangAdmin(server.url)
    for ask, kind in ((admin.ranks, int), (admin.has_memory_saver, bool), (admin.weight_version, str)):
        try:
            answer = ask()
        except PolicyError:
            continue
        assert type(answer) is kind
        if kind is int:
            assert 1 <= answer <= 1024
        refused = isinstance(told, dict) and told.get("success") is False
        assert not refused, "what did not work was taken for done"
