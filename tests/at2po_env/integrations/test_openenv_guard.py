"""The guard needs no package of others: it is tested as an ASGI application."""

from __future__ import annotations

import asyncio

import pytest

from at2po_env.integrations.openenv_guard import Guard, Limits


async def echo(scope, receive, send):
    message = await receive()
    while scope["type"] == "websocket" and message["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message.get("text", "accepted")})
        message = await receive()
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})


def talk(limits: Limits, kind: str, *messages, headers=()):
    """What is sent to a client that sends some messages, and then nothing."""
    sent = []

    async def run():
        waiting = [*messages]

        async def receive():
            return waiting.pop(0) if waiting else await asyncio.Future()

        async def send(message):
            sent.append(message)

        scope = {"type": kind, "headers": [(name.encode(), value.encode()) for name, value in headers]}
        await asyncio.wait_for(Guard(echo, limits)(scope, receive, send), 5)

    asyncio.run(run())
    return sent


def http(body: bytes, *, parts: int = 1):
    size = -(-len(body) // parts)
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    return [{"type": "http.request", "body": chunk, "more_body": chunk is not chunks[-1]} for chunk in chunks]


CONNECT = {"type": "websocket.connect"}
RIGHT = [("authorization", "Bearer right")]


@pytest.mark.parametrize("parts", [1, 3])
def test_a_body_reaches_the_application_whole_and_one_that_is_too_large_does_not(parts):
    start, body = talk(Limits(max_bytes=10), "http", *http(b"0123456789", parts=parts))
    assert (start["status"], body["body"]) == (200, b"0123456789")
    start, body = talk(Limits(max_bytes=10), "http", *http(b"0123456789a", parts=parts))
    assert (start["status"], body["body"]) == (413, b"a body has at most 10 bytes")


def test_without_the_token_nothing_is_answered():
    limits = Limits("right")
    for headers in ((), [("authorization", "Bearer wrong")], [("authorization", "right")]):
        assert talk(limits, "http", *http(b"x"), headers=headers)[0]["status"] == 401
        (closed,) = talk(limits, "websocket", CONNECT, headers=headers)
        assert (closed["type"], closed["code"]) == ("websocket.close", 1008)
    assert talk(limits, "http", *http(b"x"), headers=RIGHT)[0]["status"] == 200


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "localhost"])
def test_a_page_of_our_own_is_let_in(host):
    headers = [("host", host), ("origin", f"http://{host}")]
    assert talk(Limits(), "http", *http(b"x"), headers=headers)[0]["status"] == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8000", "http://evil.example"),
        ("127.0.0.1:8000", "http://127.0.0.1:9000"),
        ("127.0.0.1:8000", "null"),  # a page in a sandboxed frame
        ("127.0.0.1:8000", ""),
        ("", "null"),
        ("", "http://"),
        ("evil.example:8000", "http://evil.example:8000"),  # its name points at 127.0.0.1
        ("127.0.0.1.evil.example", "http://127.0.0.1.evil.example"),
        ("localhost:8000", "http://[::1]:8000"),
    ],
)
def test_another_web_page_is_refused(host, origin):
    headers = [("host", host), ("origin", origin)]
    assert talk(Limits(), "http", *http(b"x"), headers=headers)[0]["status"] == 403
    (closed,) = talk(Limits(), "websocket", CONNECT, headers=headers)
    assert closed["code"] == 1008


@pytest.mark.parametrize(
    ("origin", "status"), [("https://ours.example", 200), ("https://evil.example", 403), ("null", 403)]
)
def test_with_a_token_a_page_is_of_the_name_that_it_asks(origin, status):
    headers = [*RIGHT, ("host", "ours.example"), ("origin", origin)]
    assert talk(Limits("right"), "http", *http(b"x"), headers=headers)[0]["status"] == status


def test_a_message_that_is_too_large_ends_the_connection():
    sent = talk(
        Limits(max_bytes=4), "websocket", CONNECT, *({"type": "websocket.receive", "text": t} for t in ("four", "äöü"))
    )
    assert [message.get("text", message.get("code")) for message in sent] == ["accepted", "four", 1009]


def test_a_silent_client_is_let_go():
    sent = talk(Limits(idle_seconds=0.05), "websocket", CONNECT)
    assert [message.get("text", message.get("code")) for message in sent] == ["accepted", 1001]


@pytest.mark.parametrize("wrong", [{"token": ""}, {"max_bytes": 0}, {"idle_seconds": 0}])
def test_limits_without_a_meaning_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        Limits(**wrong)
    assert "secret" not in repr(Limits("secret"))
