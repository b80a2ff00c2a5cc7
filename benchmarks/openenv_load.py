"""What an OpenEnv server of ours holds under load, and what a step over the wire costs beside one in process.

Run it in the environment of the OpenEnv tests, which ``make integrations`` makes:
``.cache/integrations/openenv/bin/python -m benchmarks.openenv_load``; it prints a report and writes it to
``benchmarks/results/openenv_load.txt``. The server is ``at2po-agent serve`` on MicroWiki in a process of its own, which
keeps 1,000 snapshots. Sessions play scripted episodes without a pause and ask for a snapshot in each; every second one
of them is cut off without a word, and another one takes its place. Threads, open files and memory of the server
are read before any load, after a warm-up, and after the load, both when every session has gone. Where they do not
return to what they were after the warm-up (memory within 5 percent), or a client that was not cut off met an error,
the report says so and the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from at2po_agent.environments import make_env
from at2po_env.integrations.openenv_client import TurnClient
from at2po_env.integrations.openenv_wire import TurnAction

ENV, PORT = "AT2PO-MicroWiki-v0", 8765
WARM_UP = 60.0  # seconds
# Of the server's memory after the load, as a multiple of before: an allocator keeps some when sessions come again.
MORE_MEMORY = 1.05
SEARCHES = ("<search> mayor</search>", "<search> river length</search>", "<search> company founder</search>")
ANSWER = "<answer> nobody</answer>"
URL = f"http://127.0.0.1:{PORT}"


@dataclass
class Load:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)  # of every step
    episodes: int = 0
    cut: int = 0  # connections that were cut off
    errors: list[str] = field(default_factory=list)  # of clients that were not cut off
    memory: list[float] = field(default_factory=list)  # MB of the server, every minute
    clients: list[TurnClient] = field(default_factory=list)


def held(server: psutil.Process) -> dict[str, float]:
    """Threads, open files and resident megabytes of the server."""
    with server.oneshot():
        return {"threads": server.num_threads(), "files": server.num_fds(), "MB": server.memory_info().rss / 1e6}


async def play(client: TurnClient, load: Load) -> None:
    """One episode: three searches and an answer."""
    await client.reset(index=random.randrange(200))
    for text in (*SEARCHES, ANSWER):
        began = time.perf_counter()
        result = await client.step(TurnAction(text=text))
        load.seconds.append(time.perf_counter() - began)
        if text == SEARCHES[1]:
            await client.state()
    assert result.done
    load.episodes += 1


async def session(number: int, load: Load, until: float) -> None:
    """Play episodes on one connection after the other, each until it is cut off."""
    while time.monotonic() < until:
        client = load.clients[number] = TurnClient(URL, websocket_ping_interval_s=None)
        try:
            while time.monotonic() < until:
                await play(client, load)
        except Exception as error:
            if load.clients[number] is client and not getattr(client, "was_cut", False):
                load.errors.append(f"{type(error).__name__}: {error}"[:200])
        with suppress(Exception):
            await client.close()


async def cut_off(load: Load, until: float) -> None:
    """Every second, end the connection of a random client as a kill does: without a word."""
    while time.monotonic() < until - 1:
        await asyncio.sleep(1)
        client = random.choice([client for client in load.clients if client._ws is not None])
        client.was_cut = True
        client._ws.transport.abort()
        load.cut += 1


async def watch(server: psutil.Process, load: Load, until: float, every: float = 60.0) -> None:
    """Note the server's memory now and then."""
    while (now := time.monotonic()) < until:
        await asyncio.sleep(min(every, until - now))
        load.memory.append(held(server)["MB"])


async def under_load(server: psutil.Process, sessions: int, seconds: float, load: Load) -> None:
    """Keep so many sessions busy for so long."""
    until = time.monotonic() + seconds
    load.clients = [TurnClient(URL) for _ in range(sessions)]
    busy = (session(number, load, until) for number in range(sessions))
    await asyncio.gather(*busy, cut_off(load, until), watch(server, load, until))


async def overhead(steps: int = 400) -> tuple[Sequence[float], Sequence[float]]:
    """Seconds of search steps in process, and over the wire by one client on an idle server."""
    env = make_env(ENV, "train", {"k": 3})
    here, there = [], []
    async with TurnClient(URL) as client:
        for number in range(steps):
            env.reset(options={"task_id": env.tasks[number % 200]})
            await client.reset(index=number % 200)
            text = SEARCHES[number % len(SEARCHES)]
            began = time.perf_counter()
            await env.astep(text)
            middle = time.perf_counter()
            await client.step(TurnAction(text=text))
            here.append(middle - began)
            there.append(time.perf_counter() - middle)
    env.close()
    return here, there


def started() -> subprocess.Popen[bytes]:
    """The server, when it answers."""
    words = ["serve", "-e", ENV, "--port", str(PORT), "--sessions", "256", "--snapshots", "1000", "k=3"]
    server = subprocess.Popen([sys.executable, "-m", "at2po_agent", *words], stdout=subprocess.DEVNULL)
    for _ in range(600):
        with suppress(OSError), urllib.request.urlopen(f"{URL}/health", timeout=5):
            return server
        time.sleep(0.1)
    raise RuntimeError("the server did not start")


def wrong(before: dict[str, float], after: dict[str, float], load: Load) -> list[str]:
    """Everything that did not return to what it was, and the errors of clients that were not cut off."""
    most = {**before, "MB": MORE_MEMORY * before["MB"]}
    grown = [
        f"{name}: {after[name]:.0f} after the load, {before[name]:.0f} before"
        for name in most
        if after[name] > most[name]
    ]
    return [*grown, *sorted(set(load.errors))[:5]]


def report(sessions: int, seconds: float, server: psutil.Process) -> tuple[list[str], list[str]]:
    """Put load on the server; returns what it held and how fast it was, and everything that is wrong."""
    here, there = asyncio.run(overhead())
    idle = held(server)
    asyncio.run(under_load(server, sessions, WARM_UP, Load()))
    time.sleep(5)
    before = held(server)
    load = Load()
    asyncio.run(under_load(server, sessions, seconds, load))
    time.sleep(5)
    after = held(server)
    inside, outside = np.median(here) * 1e3, np.median(there) * 1e3
    p50, p99 = np.percentile(load.seconds, [50, 99]) * 1e3
    points = {"idle, before any load": idle, "all gone, after the warm-up": before, "all gone, after the load": after}
    return [
        f"a search step takes {inside:.2f} ms in process and {outside:.2f} ms over /ws (medians of {len(here)}): "
        f"{outside - inside:+.2f} ms",
        "",
        f"{sessions} sessions for {seconds:g} s: {len(load.seconds):,} steps, {len(load.seconds) / seconds:,.0f} a "
        f"second, {p50:.0f} ms in the median, {p99:.0f} ms in the 99th percentile;",
        f"{load.episodes:,} episodes, {load.cut} connections cut off, {len(load.errors)} errors",
        "",
        f"{'the server holds':28s}{'threads':>9s}{'files':>9s}{'MB':>10s}",
        *(f"{name:28s}{v['threads']:9.0f}{v['files']:9.0f}{v['MB']:10.1f}" for name, v in points.items()),
        f"under load, every minute: {', '.join(f'{megabytes:.1f}' for megabytes in load.memory)} MB",
    ], wrong(before, after, load)


def main() -> None:
    """Start a server, load it, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--note", default="", help="a line about the machine, for the results file")
    arguments = parser.parse_args()
    server = started()
    try:
        lines, faults = report(arguments.sessions, arguments.seconds, psutil.Process(server.pid))
    finally:
        server.terminate()
        server.wait()
    lines += ["", "NOT AS IT WAS:", *faults] if faults else []
    head = [f"Python {platform.python_version()}, {platform.machine()}, OpenEnv 0.10; {ENV}, k=3", arguments.note]
    text = "\n".join([*filter(None, head), "", *lines]) + "\n"
    print(text, end="")
    (Path(__file__).parent / "results" / "openenv_load.txt").write_text(text, encoding="utf-8")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
