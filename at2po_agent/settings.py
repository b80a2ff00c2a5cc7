"""Read a dataclass from YAML and ``key=value`` overrides (OmegaConf structured configs), with helpful errors.

A :class:`ConfigError` names the key in full, where it was written (file and line, or the override) and the nearest keys
that do exist.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast, get_origin, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from at2po_agent.config_files import (
    Files,
    Source,
    Where,
    check_references,
    first_line,
    locate_all,
    read_override,
    read_with_bases,
)
from at2po_agent.errors import ConfigError as ConfigError
from search_backend.components import out_of_range

Schema = TypeVar("Schema")


def at_least(default: Any, low: float) -> Any:
    """A field whose value, where it is not null, is ``low`` or more."""
    return field(default=default, metadata={"at_least": low})


SENT = {"sent": True}
"""Metadata of a field of settings that are sent as they are; no ``${oc.env:NAME}`` can stand in it."""


CHOICE = {"choice": True}
"""Metadata of a field that chooses what the settings beside it are settings of, such as the algorithm's name."""


def above(default: Any, low: float) -> Any:
    """A field whose value is more than ``low``."""
    return field(default=default, metadata={"above": low})


def load(
    schema: type[Schema], files: Files, overrides: Sequence[str], under: Mapping[str, Any] | None = None
) -> Schema:
    """The defaults of the dataclass ``schema``, then the YAML files in order, then ``key=value`` overrides.

    A file is a path or the name of a packaged configuration. It may name others that it is laid over, one or a list in
    order: ``base: [model.yaml, ../task.yaml, at2po]``, each relative to the file that names it or packaged.

    Settings without a schema of their own (fields that are a ``dict``) are replaced by ``key={…}`` and added to by
    ``key.name=value``; a file replaces those of the files before it. A file that makes another choice than those before
    it, such as another algorithm, begins with none of the settings that they made beside theirs.

    Args:
        schema: what can be configured.
        files: configurations, later ones over earlier ones.
        overrides: ``key=value``, over all files.
        under: values of the first level that hold where nothing else says otherwise.

    Raises:
        ConfigError: a file is missing, not YAML or its own base, a key is unknown, a value has the wrong type or is out
            of range.
    """
    merged = defaults(schema, under or {})
    paths = locate_all(files)
    composed = [source for path in paths for source in read_with_bases(path)]
    _drop_other_choices(composed, schema)
    sources = composed + [read_override(text) for text in overrides]
    check_references(sources)
    for values, where in sources:
        _refuse_secrets(values, schema, where)
    _replace_settings(sources, schema)
    for values, where in sources:
        _check_keys(values, schema, where, schema)
        try:
            merged = OmegaConf.unsafe_merge(merged, values)  # in place: merge would copy all for each source
        except OmegaConfBaseException as error:
            key = error.full_key or ""
            raise ConfigError(f"{where.of(key)}: {key}: {first_line(error)}") from error
    origin = _Origin(tuple(where for _, where in sources))
    try:
        for key in sorted(OmegaConf.missing_keys(merged)):
            place = ", ".join(map(str, paths)) or "the configuration"
            begin = "" if paths else "; or begin with a packaged one, such as --cfg quickstart"
            raise ConfigError(f"{place}: {key} is not set; add it to the file or pass {key}=VALUE{begin}")
        config = cast(Schema, OmegaConf.to_object(merged))
    except ConfigError:
        raise
    except OmegaConfBaseException as error:
        key = error.full_key or ""
        raise ConfigError(f"{origin.of(key)}: {key}: {first_line(error)}") from error
    except ValueError as error:
        # A section checks itself when it is made, and says "chains is 0, …" of its field.
        section = next(key for key in _sections(schema) if _refuses_itself(OmegaConf.select(merged, key)))
        key = f"{section}.{str(error).partition(' ')[0]}"
        raise ConfigError(f"{origin.of(key)}: {section}.{error}") from error
    _check_ranges(config, origin)
    return config


def defaults(schema: type, over: Mapping[str, Any]) -> Any:
    """The defaults of a dataclass with the values ``over`` them, as an OmegaConf structured config.

    Raises:
        OmegaConfBaseException: a value does not fit its field.
    """
    return OmegaConf.merge(_structured(schema), dict(over))


@functools.cache
def _structured(schema: type) -> Any:
    """The defaults, made once: copying them, as merge does, is faster than reading the dataclasses again."""
    return OmegaConf.structured(schema)


def read_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """``key=value`` words as one mapping, for settings that have no schema; ``a.b=1`` means ``a={b: 1}``.

    Raises:
        ConfigError: a word is no ``key=value``, or its value is not YAML.
    """
    for text in overrides:
        read_override(text)
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides))))


def to_yaml(config: object) -> str:
    """A configuration as YAML that ``load`` reads back to an equal value."""
    return OmegaConf.to_yaml(OmegaConf.structured(config), resolve=True)


@dataclass(frozen=True)
class _Origin:
    """The source of a key's final value."""

    sources: tuple[Where, ...]

    def of(self, key: str) -> str:
        for where in reversed(self.sources):
            if key in where.lines:
                return where.of(key)
        return "the configuration"


_FROM_VARIABLE = re.compile(r"oc\.env\s*:\s*([^,}\s]*)")
_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASS|PASSWORD|PASSWD|PASSPHRASE|PWD|CREDENTIALS?|AUTH|BEARER)(_|\d|\Z)", re.I)


def _refuse_secrets(values: Any, schema: type, where: Where, key: str = "") -> None:
    """Refuse ``${oc.env:NAME}`` where the value may be a secret: a run stores its configuration with every value."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            _refuse_secrets(value, schema, where, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list):
        for value in values:
            _refuse_secrets(value, schema, where, key)
    elif isinstance(values, str):
        sent = any(key == one or key.startswith(f"{one}.") for one in _sent(schema))
        for name in _FROM_VARIABLE.findall(values):
            if sent or _SECRET.search(name):
                raise ConfigError(
                    f"{where.of(key)}: {key}: ${{oc.env:{name}}} would be stored with its value in config.yaml and "
                    "manifest.json. The variable of an endpoint's key is named by model.key_var (-k), that of a search "
                    "by an option of its URI; anything else is written out"
                )


def _sent(schema: type) -> Iterator[str]:
    """Keys of settings that are sent to somebody as they are."""
    return (entry.name for entry in dataclasses.fields(schema) if entry.metadata.get("sent"))


def _check_keys(values: Mapping[Any, Any], schema: type, where: Where, root: type, prefix: str = "") -> None:
    """Unknown keys and sections that are not sections, told better than a merge can."""
    hints = _hints(schema)
    for key, value in values.items():
        full = f"{prefix}{key}"
        if key not in hints:
            raise ConfigError(f"{where.of(full)}: there is no key {full!r}{_near(full, root)}")
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                known = ", ".join(_hints(hints[key]))
                raise ConfigError(f"{where.of(full)}: {full} is a section (with {known}), not {value!r}")
            _check_keys(value, cast(type, hints[key]), where, root, f"{full}.")


def _all_keys(schema: type, prefix: str = "") -> Iterator[str]:
    for key, hint in _hints(schema).items():
        yield f"{prefix}{key}"
        if dataclasses.is_dataclass(hint):
            yield from _all_keys(cast(type, hint), f"{prefix}{key}.")


@functools.cache
def _hints(schema: type) -> dict[str, Any]:
    """The types of a dataclass's fields; a ClassVar is no setting."""
    hints = get_type_hints(schema)
    return {entry.name: hints[entry.name] for entry in dataclasses.fields(schema)}


def _sections(schema: type, prefix: str = "") -> Iterator[str]:
    """Keys of the sections, inner ones first."""
    for key, hint in _hints(schema).items():
        if dataclasses.is_dataclass(hint):
            yield from _sections(cast(type, hint), f"{prefix}{key}.")
            yield f"{prefix}{key}"


def _refuses_itself(section: Any) -> bool:
    try:
        OmegaConf.to_object(section)
    except ValueError:
        return True
    return False


def _drop_other_choices(sources: Sequence[Source], schema: type) -> None:
    """Take out settings that belong to another choice than a later source makes: another algorithm's expansion."""
    for section, name, settings in _choices(schema):
        chosen = None
        for number, (values, _) in enumerate(sources):
            choice = _section(values, section).get(name, chosen)
            if chosen is not None and choice != chosen:
                for earlier, _ in sources[:number]:
                    for key in settings:
                        _section(earlier, section).pop(key, None)
            chosen = choice


def _choices(schema: type, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, list[str]]]:
    """Sections with a field that is a choice: their keys, that field, and the settings beside it."""
    hints = _hints(schema)
    for entry in dataclasses.fields(schema):
        if dataclasses.is_dataclass(hints[entry.name]):
            yield from _choices(cast(type, hints[entry.name]), (*prefix, entry.name))
        elif entry.metadata.get("choice"):
            yield prefix, entry.name, [key for key, hint in hints.items() if get_origin(hint) is dict]


def _section(values: Any, keys: Sequence[str]) -> dict[str, Any]:
    """What a source has of a section; nothing where it is not there, or no mapping."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def _replace_settings(sources: Sequence[Source], schema: type) -> None:
    """Take out settings that a later source gives as a whole: the two need not go together."""
    for number, (_, where) in enumerate(sources):
        for key in (key for key in _settings(schema) if key in where.lines):
            *sections, name = key.split(".")
            for earlier, _ in sources[:number]:
                _section(earlier, sections).pop(name, None)


def _settings(schema: type, prefix: str = "") -> Iterator[str]:
    """Keys that hold settings without a schema."""
    for key, hint in _hints(schema).items():
        if dataclasses.is_dataclass(hint):
            yield from _settings(cast(type, hint), f"{prefix}{key}.")
        elif get_origin(hint) is dict:
            yield f"{prefix}{key}"


def _near(key: str, root: type) -> str:
    """Keys of the same name in another section first, then keys spelled alike."""
    keys = [known for known in _all_keys(root) if "." in known or "." not in key]
    name = key.rpartition(".")[2]
    same_name = [known for known in keys if known.rpartition(".")[2] == name]
    names = {known.rpartition(".")[2]: known for known in keys}
    alike = difflib.get_close_matches(key, keys, n=2, cutoff=0.75)
    alike += [names[match] for match in difflib.get_close_matches(name, names, n=1, cutoff=0.75)]
    found = list(dict.fromkeys(same_name + alike))[:3]
    return f"; did you mean {' or '.join(found)}?" if found else "; --print-config shows all keys"


def _check_ranges(section: Any, origin: _Origin, prefix: str = "") -> None:
    for entry in dataclasses.fields(section):
        key, value = f"{prefix}{entry.name}", getattr(section, entry.name)
        if dataclasses.is_dataclass(value):
            _check_ranges(value, origin, f"{key}.")
        elif wrong := out_of_range(entry, value):
            raise ConfigError(f"{origin.of(key)}: {key} is {value}, {wrong}")
