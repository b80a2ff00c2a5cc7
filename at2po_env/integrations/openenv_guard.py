"""Guard a server: check tokens, limit message sizes, refuse other web pages, and end silent connections."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# A page may point a name of its own at 127.0.0.1, and then has that name as its origin and its host.
_OUR_NAMES = re.compile(rb"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")

_POLICY, _TOO_BIG, _GOING_AWAY = 1008, 1009, 1001  # of WebSocket's close codes


@dataclass(frozen=True)
class Limits:
    """Limits of a client.

    Raises:
        ValueError: the token is empty, or a limit is not above 0.
    """

    token: str | None = field(default=None, repr=False)  # "Authorization: Bearer TOKEN" of every request
    max_bytes: int = 1 << 20  # of a message or a body
    idle_seconds: float = 600.0  # after which a connection without a message is closed, and its session with it

    def __post_init__(self) -> None:
        if self.token is not None and not self.token:
            raise ValueError("token must not be empty")
        if not self.max_bytes > 0 or not self.idle_seconds > 0:
            raise ValueError(f"max_bytes and idle_seconds must be above 0, got {self.max_bytes}, {self.idle_seconds}")


class Guard:
    """ASGI middleware that keeps :class:`Limits`."""

    def __init__(self, app: App, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refused = self._refusal({name.lower(): value for name, value in scope["headers"]})
        if scope["type"] == "http":
            await self._http(scope, receive, send, refused)
        elif refused is None:
            await self._websocket(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": _POLICY, "reason": refused[1]})

    def _refusal(self, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Status and reason, where a request is refused."""
        if self.limits.token is not None:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, f"Bearer {self.limits.token}".encode()):
                return 401, "a token is needed: Authorization: Bearer TOKEN"
        # Browsers let any page open a WebSocket to 127.0.0.1, and say which page it is.
        if (origin := headers.get(b"origin")) is not None:
            host = headers.get(b"host", b"")
            own = self.limits.token is not None or _OUR_NAMES.fullmatch(host) is not None
            if not own or origin.partition(b"://")[2] != host or not host:
                return 403, "requests of other web pages are refused"
        return None

    async def _http(self, scope: Message, receive: Receive, send: Send, refused: tuple[int, str] | None) -> None:
        body, more = b"", refused is None
        while more and refused is None:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
            if len(body) > self.limits.max_bytes:
                refused = 413, f"a body has at most {self.limits.max_bytes:,} bytes"
        if refused is not None:
            status, reason = refused
            start = {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]}
            await send(start)
            await send({"type": "http.response.body", "body": reason.encode()})
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, again, send)

    async def _websocket(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass messages on until one is too large, or none comes for too long: then the connection is closed."""
        limits, over = self.limits, False

        async def watched() -> Message:
            try:
                message = await asyncio.wait_for(receive(), limits.idle_seconds)
            except TimeoutError:
                return await closed(_GOING_AWAY, f"no message for {limits.idle_seconds:g} s")
            said = (message.get("text") or "").encode() if message["type"] == "websocket.receive" else b""
            if max(len(said), len(message.get("bytes") or b"")) > limits.max_bytes:
                return await closed(_TOO_BIG, f"a message has at most {limits.max_bytes:,} bytes")
            return message

        async def closed(code: int, reason: str) -> Message:
            await sending({"type": "websocket.close", "code": code, "reason": reason})
            return {"type": "websocket.disconnect", "code": code, "reason": reason}

        async def sending(message: Message) -> None:
            nonlocal over
            if over:
                return
            try:
                await send(message)
            except OSError:
                # The client was killed. OpenEnv would answer it with one error after the other, each a traceback in
                # the log; it learns of the end with its next receive.
                over = True
            over = over or message["type"] == "websocket.close"

        await self.app(scope, watched, sending)
