"""``at2po-agent serve``: an OpenEnv server of an environment."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import os
import socket
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from at2po_agent.commands.options import add_imports, complete, env_words
from at2po_agent.errors import ConfigError
from at2po_agent.terminal import say

if TYPE_CHECKING:
    from at2po_env.integrations.openenv_guard import Limits


def add_parser(commands: Any) -> None:
    """Add ``serve`` to the subparsers of the command."""
    parser = commands.add_parser("serve", help="serve an environment to trainers, over OpenEnv's protocol")
    add = parser.add_argument
    which = "a Gymnasium id, e.g. AT2PO-HotpotQA-v0"
    complete(add("-e", "--env", required=True, metavar="ENV_ID", help=which), env_words)
    add("--split", dest="splits", action="append", metavar="SPLIT", help="repeatable; default: train")
    add_imports(parser)
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on; any other than the default 127.0.0.1 needs --token-var",
    )
    add("--port", type=int, default=8000, help="default: 8000; 0 picks a free one")
    add("--token-var", metavar="VAR", help="the environment variable with the token that clients must send")
    add("--sessions", type=int, default=256, metavar="N", help="clients at a time; default: 256")
    add(
        "--idle",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="drop a client that has been silent this long; default: 600",
    )
    add("--max-bytes", type=int, default=1 << 20, metavar="N", help="largest size of a message; default: 1048576")
    add(
        "--snapshots",
        type=int,
        default=100_000,
        metavar="N",
        help="most snapshots that are stored for forks; default: 100000",
    )
    add(
        "--expire",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="delete a snapshot that was not used this long; default: 3600",
    )
    add("overrides", nargs="*", metavar="key=value", help="arguments of gymnasium.make, e.g. k=5 search=URI")
    parser.set_defaults(command=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    if importlib.util.find_spec("openenv") is None:
        raise ConfigError("serve needs the package openenv: pip install 'at2po[openenv]'")
    for option in ("sessions", "snapshots", "expire"):
        if not (value := getattr(arguments, option)) > 0:
            raise ConfigError(f"--{option} must be above 0, got {value}")
    if not 0 <= arguments.port <= 65535:
        raise ConfigError(f"--port must be from 0 to 65535, got {arguments.port}")
    token = _token(arguments.token_var, arguments.host)
    from at2po_env.integrations.openenv_guard import Limits

    try:
        limits = Limits(token, arguments.max_bytes, arguments.idle)
    except ValueError as error:
        raise ConfigError(f"serve: {error}") from error
    with _listener(arguments.host, arguments.port) as listener:
        _answer(arguments, limits, listener)
    return 0


def _answer(arguments: argparse.Namespace, limits: Limits, listener: socket.socket) -> None:
    """Answer what comes in at a socket, until a signal ends it."""
    from at2po_agent.environments import check_env_id, import_tasks, make_env
    from at2po_agent.settings import read_overrides

    kwargs = read_overrides(arguments.overrides)
    import_tasks(arguments.imports)
    check_env_id(arguments.env)

    import uvicorn

    from at2po_env.integrations.openenv_server import create_app
    from at2po_env.integrations.openenv_snapshots import Snapshots

    with ExitStack() as opened:
        envs = {
            split: opened.enter_context(closing(make_env(arguments.env, split, kwargs)))
            for split in arguments.splits or ["train"]
        }
        app = create_app(
            envs,
            name=arguments.env.rpartition(":")[2],
            sessions=arguments.sessions,
            limits=limits,
            snapshots=Snapshots(arguments.snapshots, arguments.expire),
        )
        tasks = ", ".join(f"{len(env.tasks):,} {env.task_word}s of {split}" for split, env in envs.items())
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        say(f"{arguments.env}: {tasks} at ws://{host}:{listener.getsockname()[1]}/ws")
        config = uvicorn.Config(app, ws_max_size=arguments.max_bytes, log_level="warning")
        # uvicorn.run would swallow Ctrl-C.
        uvicorn.Server(config).run([listener])


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(f"serve cannot listen at --host {host} --port {port}: {error}") from error


def _token(variable: str | None, host: str) -> str | None:
    """The token that clients must send; None where only this machine can reach the server and none is wanted."""
    if variable is not None:
        token = os.environ.get(variable, "").strip()
        if not token:
            raise ConfigError(f"the environment variable {variable!r:.64} is not set; --token-var takes its name")
        return token
    if not _is_local(host):
        raise ConfigError(f"--host {host} lets other machines in: name the variable of a token with --token-var")
    return None


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
