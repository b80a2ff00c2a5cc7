"""Imported by the process that others are forked from: what a run loads lazily is loaded, nothing trained.

Only the backward pass is left out: torch refuses to fork once its threads are there.
"""

import tempfile
from pathlib import Path

from tests.helpers.disturbed import train_in

with tempfile.TemporaryDirectory() as folder:
    train_in(Path(folder) / "run", overrides=["train.steps=0"])
