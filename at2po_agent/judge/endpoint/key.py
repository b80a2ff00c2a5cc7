"""The endpoint's key: read from an environment variable, and taken out of everything that comes back."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field

from at2po_agent.settings import ConfigError

HIDDEN = "[key]"
_SHORTEST = 8  # "none" or "EMPTY", which local servers are given, are no secrets: hiding them would change answers


@dataclass(frozen=True)
class Key:
    """A key that no representation shows."""

    value: str = field(repr=False)

    @classmethod
    def of(cls, variable: str | None) -> Key:
        """Read the variable; without one the endpoint needs no key.

        Raises:
            ConfigError: it is not set, or holds what cannot be sent. The message shows neither its value nor a name
                that could be a key itself.
        """
        if variable is None:
            return cls("")
        named = variable if variable.isupper() and len(variable) <= 64 else "that -k names"
        value = os.environ.get(variable, "").strip()
        if not value:
            raise ConfigError(f"the environment variable {named} is not set; -k takes the name of the key's variable")
        if not value.isascii() or not value.isprintable():
            raise ConfigError(f"the environment variable {named} holds characters that no key has")
        return cls(value)

    def hide_in(self, text: str) -> str:
        """``text`` without the key, also where JSON escapes a character of it."""
        for written in self._written():
            text = text.replace(written, HIDDEN)
        return text

    def hide_in_bytes(self, data: bytes) -> bytes:
        """As ``hide_in``."""
        for written in self._written():
            data = data.replace(written.encode(), HIDDEN.encode())
        return data

    def _written(self) -> set[str]:
        if len(self.value) < _SHORTEST:
            return set()
        in_json = json.dumps(self.value)[1:-1]
        return {self.value, in_json, in_json.replace("/", "\\/")}
