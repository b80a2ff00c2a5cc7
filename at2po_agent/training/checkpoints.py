"""Checkpoints: everything a run needs to go on bit for bit, written as a whole or not at all.

``checkpoints/step_000020/`` holds ``model/`` (a Hugging Face folder with weights or LoRA adapters, tokenizer, configs),
``state.pt`` (updater and random generators), ``position.json`` (the trainer's place in the run), ``ahead.json.zst``
(trees that were sampled for the next step, where there are any) and, written last, ``checkpoint.json`` with the SHA-256
of every file. A folder that does not match its list is damaged and is not used.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel
from typing_extensions import TypedDict

from at2po_agent.atomic_files import new_directory, remove_directories, write_bytes, write_text
from at2po_agent.errors import AgentError
from at2po_agent.policy.base import CausalLM, PolicyError
from at2po_agent.policy.lora import has_lora, load_adapter, save_adapter
from at2po_agent.training.batches import Batch, read_batch
from at2po_agent.training.stored_files import Count, read_value, unchanged
from search_backend.outside import Unusable

FORMAT = 1
_LIST = "checkpoint.json"
_AHEAD = "ahead.json.zst"
_NAME = re.compile(r"step_\d{6,}(_\d+)?", re.ASCII)  # numbered where a step has a second checkpoint


class _Listed(TypedDict):
    format: Count
    step: Count
    files: dict[str, str]


class CheckpointError(AgentError):
    """A checkpoint is missing or damaged, or belongs to another model; the message says which."""


class Stateful(Protocol):
    """An object with a state to save: tensors and plain values only. The updater is one."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take back the state that was saved, once the model has its weights."""
        ...


@dataclass(frozen=True)
class Progress:
    """A trainer's place in its run, besides the weights."""

    step: int  # training steps done
    position: Mapping[str, Any]  # plain JSON values, given back by ``latest``
    updater: Mapping[str, Any]  # what its ``state_dict`` gave
    ahead: Batch | None = None  # sampled for the next step


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found whole."""

    path: Path
    step: int
    position: Mapping[str, Any]  # what the trainer passed to ``save``

    def ahead(self) -> Batch | None:
        """The trees that were sampled for the next step; None where there were none.

        Raises:
            CheckpointError: they are none that this version wrote.
        """
        file = self.path / _AHEAD
        try:
            return read_batch(file) if file.exists() else None
        except Unusable as error:
            raise CheckpointError(f"{error}; remove {self.path} to continue from the checkpoint before it") from error

    def restore(self, model: PreTrainedModel, updater: Stateful) -> None:
        """Put weights, updater state and random generators back in place.

        The weights are copied into the tensors that ``model`` already has, so that memory layout, and with it every bit
        of later arithmetic, is that of a run that never stopped.

        Raises:
            CheckpointError: ``model`` has other parameters than the one that was saved, or the state is none.
        """
        import torch

        try:
            if has_lora(model):
                load_adapter(model, self.path / "model")
            else:
                saved = AutoModelForCausalLM.from_pretrained(
                    self.path / "model", dtype="auto", local_files_only=True, trust_remote_code=False
                )
                model.load_state_dict(saved.state_dict())
        except (RuntimeError, PolicyError) as error:
            raise CheckpointError(
                f"{self.path} belongs to another model: {' '.join(str(error).split())[:300]}"
            ) from error
        except (OSError, ValueError, SafetensorError) as error:
            why = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{self.path / 'model'} has no model that can be loaded: {why}") from error
        file = self.path / "state.pt"
        try:
            # Mapped, because of several processes each one needs no more than its share.
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            updater.load_state_dict(state["updater"])
            _set_rng(state["rng"])
        # A pickle of anything but tensors and plain values is refused before it runs; what else is in it may be wrong.
        except (
            pickle.UnpicklingError,
            RuntimeError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            EOFError,
        ) as error:
            why = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{file} was not written by this version ({type(error).__name__}: {why}); remove {self.path} to "
                "continue from the checkpoint before it"
            ) from error


def save(
    directory: Path,
    progress: Progress,
    *,
    model: CausalLM,
    tokenizer: Any,
    keep: int = 2,
) -> Path:
    """Write a checkpoint and remove all but the last ``keep``, and those of later steps (a future that was left).

    Args:
        directory: the run's ``checkpoints`` folder.
        progress: of the trainer.
        model: a transformers model, saved with its configuration in the dtype it has.
        tokenizer: its transformers tokenizer.
        keep: at least 1; an older checkpoint is removed only once the new one is on the disk.

    Raises:
        DiskError: it cannot be written; the older checkpoints are untouched and nothing is left of the new one.
    """
    step = progress.step
    final = directory / f"step_{step:06d}"
    same_step = [again for at, again in map(_order, folders(directory)) if at == step]
    if same_step:  # it stands until this one is whole
        final = final.with_name(f"{final.name}_{max(same_step) + 1}")
    with new_directory(final) as folder:
        _save_model(model, tokenizer, folder / "model")
        _save_tensors({"updater": progress.updater, "rng": _get_rng()}, folder / "state.pt")
        write_text(folder / "position.json", json.dumps(dict(progress.position), ensure_ascii=False))
        if progress.ahead is not None:
            write_bytes(folder / _AHEAD, progress.ahead.pack())
        files = {path.relative_to(folder).as_posix(): sha256(path) for path in _files(folder)}
        write_text(folder / _LIST, json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1))
    remove_directories(directory, (path for path in folders(directory) if _order(path) > _order(final)))
    remove_superseded(final, keep)
    return final


def remove_superseded(newest: Path, keep: int) -> None:
    """Keep the checkpoint ``newest`` and those of the ``keep - 1`` steps before it, and remove what is older.

    Raises:
        DiskError: one cannot be removed.
    """
    older = [path for path in folders(newest.parent) if _order(path) < _order(newest)]
    earlier = [path for path in older if _order(path)[0] < _order(newest)[0]]
    kept = earlier[::-1][: keep - 1]
    remove_directories(newest.parent, (path for path in older if path not in kept))


def load(path: Path) -> Checkpoint:
    """Open the checkpoint at ``path`` after comparing every file with its list.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        listed = read_value(path / _LIST, unchanged(_Listed))
        if listed["format"] != FORMAT:
            raise CheckpointError(f"{path} has format {listed['format']}, this version reads {FORMAT}")
        for name, digest in listed["files"].items():
            if sha256(path / name) != digest:
                raise CheckpointError(f"{path} is damaged: {name} is not what was written")
        position = read_value(path / "position.json", unchanged(dict[str, Any]))
    except FileNotFoundError as error:
        what = "damaged" if path.is_dir() else "not a checkpoint"
        raise CheckpointError(f"{path} is {what}: {Path(error.filename).name} is missing") from error
    except (OSError, Unusable) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return Checkpoint(path, listed["step"], position)


def latest(directory: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint of a run that is whole; ``None`` where none was ever written.

    Args:
        directory: the run's ``checkpoints`` folder.
        warn: told about every damaged one that is passed over, and which one is used instead.

    Raises:
        CheckpointError: there are checkpoints, and all are damaged.
    """
    problems: list[str] = []
    for path in reversed(folders(directory)):
        try:
            found = load(path)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warn(f"{problem}; continuing from {path.name} instead")
        return found
    if problems:
        raise CheckpointError("no checkpoint can be used: " + "; ".join(problems))
    return None


def folders(directory: Path) -> list[Path]:
    """Checkpoint folders, oldest first; whatever else lies beside them, such as a copy, is not the run's."""
    found = (path for path in directory.glob("step_*") if path.is_dir())
    return sorted((path for path in found if _NAME.fullmatch(path.name)), key=_order)


def step_of(folder: Path) -> int:
    """The step that one of ``folders`` is of."""
    return _order(folder)[0]


def _save_model(model: CausalLM, tokenizer: Any, folder: Path) -> None:
    try:
        save_adapter(model, folder) if has_lora(model) else model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except SafetensorError as error:  # how it reports a full disk
        raise OSError(str(error)) from error


def _save_tensors(state: dict[str, Any], path: Path) -> None:
    import torch

    with open(path, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch hides a failed write behind an assertion of its own
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def _order(path: Path) -> tuple[int, int]:
    _, step, *again = path.name.split("_")
    return int(step), int(again[0]) if again else 0


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sha256(path: Path) -> str:
    """The digest of a file as ``checkpoint.json`` has it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _get_rng() -> dict[str, Any]:
    """The global generators of torch, CUDA, numpy and Python, as tensors and plain values."""
    import torch

    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss],
        "python": [version, list(internal), gauss_next],
    }


def _set_rng(state: dict[str, Any]) -> None:
    import torch

    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
