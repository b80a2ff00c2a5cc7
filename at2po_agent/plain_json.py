"""Numbers of any library as plain JSON values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


def plain_json(value: Any) -> Any:
    """Plain JSON values; numbers that are not finite as null.

    Raises:
        TypeError: it is neither a plain value, a mapping, a sequence, a dataclass nor a scalar of numpy or torch.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain_json(dataclasses.asdict(value))
    if hasattr(value, "item"):
        return plain_json(value.item())
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")
