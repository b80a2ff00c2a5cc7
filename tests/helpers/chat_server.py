"""A local HTTP server that speaks chat completions as it is told to: answers by a function, and every fault by name."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class Asked:
    """One request as it arrived."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.body["messages"]


@dataclass
class Say:
    """One answer. ``text`` makes a completion; ``raw`` is sent as it is."""

    text: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    finish: str = "stop"
    message: dict[str, Any] = field(default_factory=dict)  # more fields of the message
    choice: dict[str, Any] = field(default_factory=dict)  # more fields of the choice
    content_type: str = "application/json"
    delay: float = 0.0  # before the head
    wait_for: threading.Event | None = None  # before the head too
    cut_after: int | None = None  # bytes of the body, then the connection is dropped
    drop: bool = False  # the connection, before anything is said
    counted: bool = True  # with usage
    repeat: bool = False  # the body, for ever
    trickle: float = 0.0  # seconds between single spaces that come instead of a body, for ever


Script = Callable[[Asked], Say]


class ChatServer:
    """Serves until ``close``; ``asked`` keeps the requests unless ``keep`` is off."""

    def __init__(self, script: Script, keep: bool = True, port: int = 0) -> None:
        self.script, self.keep, self.port = script, keep, port
        self.asked: list[Asked] = []
        self.count = self.running = self.most_running = 0
        self._loop = asyncio.new_event_loop()
        started: threading.Event = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def __enter__(self) -> ChatServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main(started))
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _main(self, started: threading.Event) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")) and await self._request(head, reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left
        finally:
            writer.close()

    async def _request(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = head.decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
        asked = Asked(self.count, first.split()[1], headers, body)
        self.count += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        if self.keep:
            self.asked.append(asked)
        try:
            return await self._answer(self.script(asked), writer)
        finally:
            self.running -= 1

    async def _answer(self, say: Say, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(say.delay)
        if say.wait_for is not None:
            await asyncio.to_thread(say.wait_for.wait)
        if say.drop:
            return False
        body = say.raw if say.raw is not None else json.dumps(completion(say)).encode()
        length = "" if say.trickle or say.repeat else f"Content-Length: {len(body)}\r\n"
        more = "".join(f"{name}: {value}\r\n" for name, value in say.headers.items())
        head = f"HTTP/1.1 {say.status} X\r\nContent-Type: {say.content_type}\r\n{length}{more}\r\n"
        writer.write(head.encode() + (b"" if say.trickle else body[: say.cut_after]))
        await writer.drain()
        while say.repeat:
            writer.write(body)
            await writer.drain()
        while say.trickle:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(say.trickle)
        return say.cut_after is None


def completion(say: Say) -> dict[str, Any]:
    """A chat completion as OpenAI's API gives it, with counts of characters as tokens."""
    message = {"role": "assistant", "content": say.text, **say.message}
    usage = {"prompt_tokens": 100, "completion_tokens": len(say.text or ""), "total_tokens": 100}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": say.finish, **say.choice}],
        **({"usage": usage} if say.counted else {}),
    }


def failure(status: int, message: str = "no", **fields: Any) -> Say:
    """An error as OpenAI's API gives it."""
    body = {"error": {"message": message, "type": "x", "param": None, "code": None, **fields}}
    return Say(status=status, raw=json.dumps(body).encode())


def search_then_answer(asked: Asked) -> Say:
    """Searches for the question, then answers with the first title that came; as a server that honours stops."""
    last = asked.messages[-1]["content"]
    if "<result>" in last and len(asked.messages) > 1:
        title = last.split("(1) ", 1)[-1].split(":", 1)[0]
        return Say(f"<think>That is it.</think><answer>{title}")
    question = last.rsplit("Question: ", 1)[-1].strip()
    return Say(f"<think>Let me see.</think><search>{question}")


@pytest.fixture
def serve():
    """A function that starts a server with a script."""
    made: list[ChatServer] = []

    def start(script, keep: bool = True) -> ChatServer:
        made.append(ChatServer(script, keep))
        return made[-1]

    yield start
    for server in made:
        server.close()
