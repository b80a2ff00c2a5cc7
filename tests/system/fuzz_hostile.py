"""``python -m tests.system.fuzz_hostile``: libFuzzer's options; ends at the first escape or exception.

Atheris is used and not hypothesis' ``target()``: it follows the branches of our own code by itself, where a target
would need a number to be invented for how near a text is to an escape.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["at2po_env", "at2po_agent.policy.codec", "at2po_agent.terminal"]):
    from tests.helpers import real_tokenizers
    from tests.helpers.hostile import atoms, open_readers


def main() -> None:
    """Fuzz until ``-runs`` or ``-max_total_time`` is reached."""
    with tempfile.TemporaryDirectory() as folder:
        readers, pieces = open_readers(real_tokenizers.NAMES, Path(folder)), atoms()

    def one_input(data: bytes) -> None:
        draw = atheris.FuzzedDataProvider(data)
        reader = readers[draw.ConsumeIntInRange(0, len(readers) - 1)]
        part = reader.parts[draw.ConsumeIntInRange(0, 3)]
        text = ""
        while draw.remaining_bytes():
            if draw.ConsumeBool():
                text += pieces[draw.ConsumeIntInRange(0, len(pieces) - 1)]
            else:
                text += draw.ConsumeUnicode(draw.ConsumeIntInRange(0, 8))  # surrogates too
        part(text)

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
