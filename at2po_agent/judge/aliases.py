"""Short names of endpoints, in ``endpoints.toml`` of the working directory or of the user's configuration.

[mini]
base_url = "https://api.openai.com/v1"
model = "gpt-4.1-mini"         # default: the alias itself
key_var = "OPENAI_API_KEY"     # the variable's name; never the key
price_prompt = 0.40            # per million tokens
price_completion = 1.60
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from at2po_agent.judge.config import ModelConfig, check_model
from at2po_agent.structured import ConfigError

FILE = "endpoints.toml"
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "base_url": str,
    "model": str,
    "key_var": str,
    "price_prompt": (int, float),
    "price_completion": (int, float),
}


def alias_files() -> tuple[Path, ...]:
    """Where aliases are looked for, the first file that has one counts."""
    return Path(FILE), platformdirs.user_config_path("at2po", appauthor=False) / FILE


def resolve_alias(model: ModelConfig) -> ModelConfig:
    """The model with what its alias says, where its name is one; what is set beside it stays.

    Raises:
        ConfigError: a file of aliases cannot be used. Values in it are not repeated: one could be a key.
    """
    if model.base_url is not None:
        return model
    for path in alias_files():
        entry = _read(path).get(model.name)
        if entry is not None:
            return _applied(model, entry, f"{path}: [{model.name}]")
    return model


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _applied(model: ModelConfig, entry: Any, where: str) -> ModelConfig:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} is no table of {', '.join(_KINDS)}")
    for name, value in entry.items():
        if name not in _KINDS:
            raise ConfigError(f"{where}: there is no {name!r}; there are {', '.join(_KINDS)}")
        if isinstance(value, bool) or not isinstance(value, _KINDS[name]):
            raise ConfigError(f"{where}: {name} is of the wrong type")
    if "base_url" not in entry:
        raise ConfigError(f"{where} has no base_url")
    values = {name: value for name, value in entry.items() if name != "model" and getattr(model, name) is None}
    found = dataclasses.replace(model, name=entry.get("model", model.name), **values)
    check_model(found)
    return found
