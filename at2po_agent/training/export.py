"""A run's policy as a folder of its own, which any program that reads Hugging Face models takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from at2po_agent.atomic_files import new_directory
from at2po_agent.policy.loading import load_policy
from at2po_agent.policy.lora import base_of, save_merged
from at2po_agent.training.checkpoints import Checkpoint, CheckpointError, latest, load


def export(source: Path, out: Path, warn: Callable[[str], None]) -> Checkpoint:
    """Write a checkpoint's model to ``out``, a folder that ``from_pretrained`` and ``policy.path`` take.

    LoRA adapters are merged into their base model; anything else is copied.

    Args:
        source: a run directory (its newest whole checkpoint is used) or a checkpoint.
        out: must not exist, or be empty.
        warn: told about damaged checkpoints that are passed over.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or ``out`` has something in it.
        DiskError: ``out`` cannot be written; nothing is left there.
    """
    if (source / "checkpoints").is_dir():
        found = latest(source / "checkpoints", warn)
        if found is None:
            raise CheckpointError(f"{source} has no checkpoint yet")
    else:
        found = load(source)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} already has something in it; choose a new folder")
    with new_directory(out) as folder:
        if base_of(found.path / "model"):
            _save_merged(found.path / "model", folder)
        else:
            shutil.copytree(found.path / "model", folder, dirs_exist_ok=True)
    return found


def _save_merged(adapter: Path, folder: Path) -> None:
    """Write the model that a folder with LoRA adapters stands for, in the dtype of its base."""
    from transformers import AutoConfig

    dtype = AutoConfig.from_pretrained(adapter, local_files_only=True, trust_remote_code=False).dtype
    model, codec = load_policy(adapter, dtype)
    save_merged(model, folder)
    codec.tokenizer.save_pretrained(folder)
