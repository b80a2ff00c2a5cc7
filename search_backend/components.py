"""Components by name: built in, brought by an installed package, or your own as ``module:attribute``.

Every name in a configuration that stands for code is resolved here, in that order; modules are also searched in the
working directory. A package brings components by entry points that are named KIND.NAME::

    [project.entry-points."at2po.components"]
    "expansion.mine" = "my_package.trees:MyExpansion"

so that ``expansion: {name: mine}`` finds its class. ``docs/own_components.md`` has the kinds and an example of each.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from typing_extensions import get_protocol_members, is_protocol

GROUP = "at2po.components"
_ADDRESS = re.compile(r"((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*):((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)")


class ComponentError(ValueError):
    """A component cannot be found, is of another kind, or has wrong settings; the message names the key."""


@dataclass(frozen=True)
class Origin:
    """The origin of a component that is not built in, as manifests record it."""

    name: str  # as it was configured, or module:attribute
    module: str
    version: str | None  # of the distribution that brings the module, if any does
    sha256: str | None  # of the module's source file; None where it has none

    @classmethod
    def of(cls, name: str, module: str) -> Origin:
        """The origin of what ``name`` stands for in an imported module."""
        file = getattr(sys.modules.get(module), "__file__", None)
        path = Path(file) if file and Path(file).is_file() else None
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path else None
        return cls(name, module, _version(module, path), digest)

    @classmethod
    def of_type(cls, component: type) -> Origin:
        """The origin of a class."""
        return cls.of(f"{component.__module__}:{component.__qualname__}", component.__module__)


@dataclass(frozen=True)
class Kind:
    """One kind of component, such as ``expansion``."""

    name: str  # in entry points
    protocol: type  # a Protocol whose members a component has, or its class
    # A class or an object by name, or the ``module:attribute`` from which it is imported on first use.
    builtin: Mapping[str, Any]

    def find(self, name: Any, at: str) -> Any:
        """Return the class, function or object that ``name`` stands for.

        Args:
            name: built in, ``NAME`` of an entry point ``KIND.NAME``, or ``module:attribute``.
            at: the key that it was written under, for messages.

        Raises:
            ComponentError: there is no such component, module or attribute. What goes wrong inside a module keeps its
                own error.
        """
        return self._look_up(name, at)[0]

    def make(self, settings: str | Mapping[str, Any], at: str) -> Any:
        """Make a component from its name, or from a mapping of ``name`` and the fields of its dataclass.

        Raises:
            ComponentError: as :meth:`find`; or a field is unknown, missing, of another type or out of range; or what
                was made is no component of this kind.
        """
        fields = {"name": settings} if isinstance(settings, str) else dict(settings)
        if "name" not in fields:
            raise ComponentError(f"{at}.name is not set; {choices('', self.names())}")
        name = fields.pop("name")
        found = self.find(name, at if isinstance(settings, str) else f"{at}.name")
        component = configured(found, name, fields, at)
        self.check(component, f"{at}: {name}")
        return component

    def made(self, given: Any, at: str) -> Any:
        """Make a component by :meth:`make` from a name or mapping; anything else is the component itself."""
        return self.make(given, at) if isinstance(given, str | Mapping) else given

    def check(self, component: object, at: str) -> None:
        """Raise a ComponentError where an object lacks what this kind of component has."""
        if lack := _lack(component, self.protocol):
            raise ComponentError(f"{at} is no {self.protocol.__name__}: {lack}")

    def origin(self, settings: Any) -> Origin | None:
        """The origin of a named component; None where it is built in, or was given as an object."""
        name = settings.get("name") if isinstance(settings, Mapping) else settings
        if not isinstance(name, str) or name in self.builtin:
            return None
        component, module = self._look_up(name, self.name)
        defined = component.__module__ if inspect.isclass(component) or inspect.isfunction(component) else module
        return Origin.of(name, defined)

    def names(self) -> list[str]:
        """Every name that needs no module: built in, then of installed packages."""
        prefix = f"{self.name}."
        return [*self.builtin, *(name.removeprefix(prefix) for name in sorted(_points()) if name.startswith(prefix))]

    def _look_up(self, name: Any, at: str) -> tuple[Any, str]:
        """The component, and the module that its name leads to."""
        address = self.builtin.get(name, name) if isinstance(name, str) else None
        if not isinstance(address, str | None):
            return address, type(address).__module__
        if name not in self.builtin and (point := _points().get(f"{self.name}.{name}")):
            address = point.value.partition("[")[0].strip()
            at = f"{at}: {name} of {point.dist.name if point.dist else 'an installed package'}"
        if address is not None and (parts := _ADDRESS.fullmatch(address)):
            return _attribute(parts[1], parts[2], at), parts[1]
        raise ComponentError(f"{at}: there is no {name!r}; {choices(str(name), self.names())}, or module:attribute")


def described(origins: Mapping[str, Origin]) -> dict[str, Any]:
    """The entry ``components`` of a manifest; nothing where all are built in."""
    entries = {kind: dataclasses.asdict(origin) for kind, origin in origins.items()}
    return {"components": entries} if entries else {}


def import_module(name: str) -> ModuleType | None:
    """Import a module, searching the working directory too; None where there is no such module."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that a file beside the user shadows nothing
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # One that the module itself wants is another matter.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        return None


def choices(word: str, known: Iterable[str]) -> str:
    """Suggestions for an unknown ``word``, and all choices."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(known) or 'none'}"


def out_of_range(field: dataclasses.Field[Any], value: Any) -> str | None:
    """The error about a value outside the ``at_least`` or ``above`` of its field's metadata."""
    low, above = field.metadata.get("at_least"), field.metadata.get("above")
    if low is not None and value is not None and not value >= low:  # so that nan fails too
        return f"it must be at least {low}"
    return f"it must be above {above}" if above is not None and not value > above else None


def _attribute(module: str, path: str, at: str) -> Any:
    imported = import_module(module)
    if imported is None:
        raise ComponentError(f"{at}: there is no module {module!r} in {os.getcwd()} or installed")
    try:
        return functools.reduce(getattr, path.split("."), imported)
    except AttributeError:
        public = [name for name in vars(imported) if not name.startswith("_")]
        near = difflib.get_close_matches(path, public, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        where = f" ({imported.__file__})" if getattr(imported, "__file__", None) else ""
        raise ComponentError(f"{at}: module {module!r}{where} has no {path!r}{hint}") from None


def _points() -> dict[str, importlib.metadata.EntryPoint]:
    """The entry points of installed packages by their names.

    Raises:
        ComponentError: two packages bring one name.
    """
    points: dict[str, importlib.metadata.EntryPoint] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        other = points.setdefault(point.name, point)
        if other.value != point.value:
            both = f"{other.value} and {point.value}"
            raise ComponentError(f"two installed packages bring {point.name!r} in {GROUP}: {both}; uninstall one")
    return points


def _version(module: str, file: Path | None) -> str | None:
    """The version of the distribution that a module is of: by its entry points, else by its place."""
    package = module.partition(".")[0]
    for point in _points().values():
        if point.module.partition(".")[0] == package and point.dist:
            return point.dist.version
    for name in importlib.metadata.packages_distributions().get(package, ()):
        distribution = importlib.metadata.distribution(name)
        if file and file.resolve().is_relative_to(Path(str(distribution.locate_file(""))).resolve()):
            return distribution.version
    return None


def configured(component: Any, name: str, settings: Mapping[str, Any], at: str) -> Any:
    """Make a class, or change an object, with settings that are checked against the fields of its dataclass.

    Raises:
        ComponentError: a field is unknown, missing, of another type or out of range; or there are none.
    """
    if not dataclasses.is_dataclass(component):
        if inspect.isclass(component):
            raise ComponentError(f"{at}: {name} is a class but not a dataclass, so its settings cannot be checked")
        if settings:
            raise ComponentError(f"{at}.{next(iter(settings))}: {name} has no settings")
        return component
    fields = {field.name: field for field in dataclasses.fields(component) if field.init}
    for key in settings:
        if key not in fields:
            known = choices(str(key), fields)
            # Where nothing is spelled alike, a file may have set it for what was chosen before.
            other = "" if "did you mean" in known else f". If a file sets it for another one, replace all: {at}={{…}}"
            raise ComponentError(f"{at}.{key}: {name!r} has no such setting; {known}{other}")
    values = _typed(component, name, settings, at)
    for key, value in values.items():
        if wrong := out_of_range(fields[key], value):
            raise ComponentError(f"{at}.{key} is {value}, {wrong}")
    try:
        return component(**values) if inspect.isclass(component) else dataclasses.replace(component, **values)
    except (TypeError, ValueError) as error:  # a TypeError where a method of a base class is missing
        raise ComponentError(f"{at}: {error}") from error


def _typed(component: Any, name: str, settings: Mapping[str, Any], at: str) -> dict[str, Any]:
    """The settings, each as its field's type has it."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        merged = OmegaConf.merge(OmegaConf.structured(component), settings)
        for key in sorted(OmegaConf.missing_keys(merged)):
            raise ComponentError(f"{at}.{key} is not set, and {name} has no default for it")
        whole: Any = OmegaConf.to_container(merged)
    except OmegaConfBaseException as error:
        key = f".{error.full_key}" if error.full_key else ""
        raise ComponentError(f"{at}{key}: {str(error).splitlines()[0]}") from error
    except NameError as error:
        raise ComponentError(f"{at}: the types of {name}'s fields cannot be read: {error}") from error
    return {key: whole[key] for key in settings}


def _lack(component: object, protocol: type) -> str | None:
    """The first member of a protocol or class that an object lacks; None where it has all."""
    if not is_protocol(protocol):
        return None if isinstance(component, protocol) else f"it is a {type(component).__name__}"
    for member in sorted(get_protocol_members(protocol)):
        if inspect.getattr_static(component, member, None) is None:
            return f"it has no {member}"
        wanted = inspect.getattr_static(protocol, member)
        if not inspect.isfunction(wanted):
            continue
        # A function's own ``__call__`` takes anything.
        method: Any = component if member == "__call__" else getattr(component, member)
        asked = list(inspect.signature(wanted).parameters)[1:]
        try:
            inspect.signature(method).bind(*asked)
        except TypeError:
            return f"its {member} does not take ({', '.join(asked)})"
        if inspect.iscoroutinefunction(wanted) and not inspect.iscoroutinefunction(method):
            return f"its {member} is no async function"
    return None
