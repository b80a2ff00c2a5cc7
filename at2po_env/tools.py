"""``Tool``: what a model can call, with its JSON schema: a typed Python function, or a tool of a server.

A function's name, docstring and annotations are what the model is told; pydantic reads the annotations and checks the
arguments (https://docs.pydantic.dev/latest/concepts/models/#dynamic-model-creation). A parameter named ``state`` takes
the episode's state, a dict of JSON values of its own that the function may change. ``Annotated[int, Field(description=
"…")]`` describes a parameter.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Protocol

import pydantic

from at2po_env.errors import ToolUnavailable
from at2po_env.tool_sessions import EpisodeSessions, ToolHost

STATE = "state"


class ToolFault(Exception):
    """A call that brought no result; its text is what the model reads instead."""


class Arguments(Protocol):
    """The arguments of a tool, and how they are checked."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what a call gives, in order."""
        ...

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of all of them, an object."""
        ...

    def checked(self, tool: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call of ``tool`` as values of their types.

        Raises:
            ToolFault: one is missing, unknown or of another type.
        """
        ...


@dataclass(frozen=True)
class AnnotatedArguments:
    """Arguments as a function's annotations say, read by pydantic."""

    model: type[pydantic.BaseModel]

    @property
    def names(self) -> tuple[str, ...]:
        """The function's parameters."""
        return tuple(self.model.model_fields)

    @property
    def schema(self) -> dict[str, Any]:
        """Pydantic's, without titles."""
        schema = self.model.model_json_schema()
        schema.pop("title", None)
        for described in schema.get("properties", {}).values():
            described.pop("title", None)
        return schema

    def checked(self, tool: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as pydantic reads them."""
        try:
            model = self.model.model_validate(dict(given))
        except pydantic.ValidationError as error:
            problems = (f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']}" for one in error.errors())
            raise ToolFault(f"{tool}: {'; '.join(islice(problems, 5))}") from error
        return {name: getattr(model, name) for name in self.names}


@dataclass(frozen=True)
class Tool:
    """A function as a model calls it. ``Tool.of`` makes one, ``McpServer.tools`` those of a server.

    A function returns text, a JSON value, or an iterable of texts. What exceeds the environment's limit is cut: an
    iterable is read, and a JSON value written, only as far as that, so that a huge result is never built whole.
    """

    function: Callable[..., Any]
    name: str
    description: str
    arguments: Arguments
    source: str  # what it is beside its schema, for digests: the function by module and name, or a server
    takes_state: bool = False
    host: ToolHost | None = None  # keeps a state between calls; the function takes the session with it first

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Tool:
        """Make a tool of a function.

        Raises:
            TypeError: it has no docstring, a parameter has no annotation or is ``*args`` or ``**kwargs``, or pydantic
                has no schema of an annotation.
        """
        name = getattr(function, "__name__", "")
        if not name.isidentifier():
            raise TypeError(f"a tool is a function with a name, got {function!r}")
        description = inspect.getdoc(function)
        if not description:
            raise TypeError(f"tool {name} has no docstring, which describes it to the model")
        fields: dict[str, Any] = {}
        takes_state = False
        for parameter in inspect.signature(function, eval_str=True).parameters.values():
            if parameter.name == STATE:
                takes_state = True
            elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise TypeError(f"tool {name}: {parameter} cannot be given by name")
            elif parameter.annotation is parameter.empty:
                raise TypeError(f"tool {name}: parameter {parameter.name} has no annotation")
            else:
                default = ... if parameter.default is parameter.empty else parameter.default
                fields[parameter.name] = (parameter.annotation, default)
        try:
            arguments = pydantic.create_model(name, __config__=pydantic.ConfigDict(extra="forbid"), **fields)
            arguments.model_json_schema()
        except pydantic.errors.PydanticUserError as error:
            raise TypeError(f"tool {name}: {error}") from error
        source = f"{function.__module__}.{function.__qualname__}"
        return cls(function, name, description, AnnotatedArguments(arguments), source, takes_state)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of what a call gives, in order."""
        return self.arguments.names

    @property
    def schema(self) -> dict[str, Any]:
        """The tool in OpenAI's ``function`` form."""
        function = {"name": self.name, "description": self.description, "parameters": self.arguments.schema}
        return {"type": "function", "function": function}

    @property
    def asynchronous(self) -> bool:
        """Whether the function is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    def checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call as values of the annotated types.

        Raises:
            ToolFault: one is missing, unknown or of another type.
        """
        return self.arguments.checked(self.name, arguments)

    def at(self, sessions: EpisodeSessions) -> Tool:
        """The tool as an episode calls it: in its session where a host keeps a state."""
        if self.host is None:
            return self
        return replace(self, function=partial(self.function, sessions.at(self.host)), host=None)

    def call(self, arguments: Mapping[str, Any], state: dict[str, Any]) -> Any:
        """Call a plain function.

        Raises:
            ToolFault: the arguments are wrong, or the function raised.
            ToolUnavailable: see ``acall``.
        """
        given = self._given(arguments, state)
        try:
            return self.function(**given)
        except (ToolFault, ToolUnavailable):
            raise
        except Exception as error:
            raise self._raised(error) from error

    async def acall(self, arguments: Mapping[str, Any], state: dict[str, Any], *, timeout: float | None = None) -> Any:
        """Call any function; one that is no coroutine function runs in a thread where there is a time limit.

        A thread cannot be stopped: a plain function that hangs goes on there after its call has ended with a fault.
        Give it a limit of its own, or make it a coroutine function.

        Raises:
            ToolFault: the arguments are wrong, the function raised, or it did not end within ``timeout`` seconds.
            ToolUnavailable: the function raised it, as what it needs is away: the turn is tried again.
        """
        given = self._given(arguments, state)
        work = self.function(**given) if self.asynchronous else asyncio.to_thread(self.function, **given)
        try:
            return await asyncio.wait_for(work, timeout)
        except (ToolFault, ToolUnavailable):
            raise
        except TimeoutError as error:
            if timeout is None:
                raise self._raised(error) from error
            raise ToolFault(f"{self.name}: no result within {timeout:g} s") from error
        except Exception as error:
            raise self._raised(error) from error

    def _given(self, arguments: Mapping[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        return self.checked(arguments) | ({STATE: state} if self.takes_state else {})

    def _raised(self, error: Exception) -> ToolFault:
        return ToolFault(f"{self.name}: {type(error).__name__}: {error}"[:500])


def result_text(name: str, result: Any, most: int) -> str:
    """A tool's result as text of at most ``most`` characters; one that is cut ends in ``…``.

    Raises:
        ToolFault: it is neither text, nor JSON values, nor an iterable of texts.
    """
    if isinstance(result, str):
        return result if len(result) <= most else result[: most - 1] + "…"
    try:
        pieces = (
            _texts(result) if isinstance(result, Iterator) else json.JSONEncoder(ensure_ascii=False).iterencode(result)
        )
        return _up_to(pieces, most)
    except ToolFault:
        raise
    except Exception as error:
        raise ToolFault(
            f"{name}: its result is neither text nor JSON: {type(error).__name__}: {error}"[:500]
        ) from error


def _texts(result: Iterator[Any]) -> Iterator[str]:
    for piece in result:
        if not isinstance(piece, str):
            raise TypeError(f"an iterable of texts, with {type(piece).__name__} in it")
        yield piece


def _up_to(pieces: Iterable[str], most: int) -> str:
    kept: list[str] = []
    length = 0
    for piece in pieces:
        kept.append(piece[: most + 1 - length])
        length += len(kept[-1])
        if length > most:
            return "".join(kept)[: most - 1] + "…"
    return "".join(kept)
