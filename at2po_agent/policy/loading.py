"""Read a Hugging Face model directory, and check that it is complete and its parts fit together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from omegaconf import MISSING

from at2po_agent.policy.architecture import in_one_line, read_config
from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.codec import Codec
from at2po_agent.policy.lora import attach_adapter, base_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class PolicyConfig:
    """The model to train, its precision and its device."""

    path: str = MISSING  # builtin:NAME or a Hugging Face model directory
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the weights
    device: Device = "auto"  # auto: a GPU if there is one


def load_model(config: PolicyConfig) -> tuple[PreTrainedModel, Codec]:
    """Load the model that a configuration names onto its device, with the codec of its tokenizer.

    Raises:
        PolicyError: there is no such model or device, or the model is not whole.
    """
    device = device_of(config.device)
    model, codec = load_policy(resolve_policy(config.path), config.dtype)
    return model.to(device), codec


def device_of(name: Device) -> str:
    """The device that a configuration's ``device`` means: for ``auto`` the GPU where there is one.

    Raises:
        PolicyError: it is ``cuda``, and torch has no GPU here.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise PolicyError("device=cuda, but torch finds no GPU here: set device=auto or device=cpu")
    return ("cuda" if has_gpu else "cpu") if name == "auto" else name


def load_policy(path: str | Path, dtype: str | torch.dtype = "float32") -> tuple[PreTrainedModel, Codec]:
    """Load the causal language model in ``path``, with ``sdpa`` attention, and the codec of its tokenizer.

    Where the folder holds LoRA adapters, they stand in their base model, not merged.

    Args:
        path: a Hugging Face model directory.
        dtype: of the weights, as torch's or by its name.

    Raises:
        PolicyError: a file is missing or damaged, the model is none that can be run, or the weights are not all those
            of the configuration. (transformers itself makes up random numbers for weights that are missing, and warns.)
    """
    from transformers import AutoModelForCausalLM

    read_config(Path(path))
    try:
        base = base_of(Path(path))
        model, report = AutoModelForCausalLM.from_pretrained(
            base or path,
            dtype=dtype,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
            trust_remote_code=False,
        )
        codec = Codec.from_dir(path)
        if base:
            attach_adapter(model, Path(path))
    except PolicyError:
        raise
    # What the files of somebody else's model hold, transformers, tokenizers and peft fail on in ways without number.
    except Exception as error:
        raise PolicyError(f"the model in {path} cannot be loaded: {in_one_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise PolicyError(
            f"the model in {path} is incomplete: it lacks {len(missing)} of its weights, such as {missing[0]}"
        )
    return model, codec


BUILTIN = "builtin:"
DATA = Path(__file__).resolve().parent.parent / "data"


def resolve_policy(path: str | Path, data: Path = DATA) -> Path:
    """The directory that ``path`` means: ``builtin:NAME`` is a policy inside the package, all else a directory.

    Args:
        path: what the user wrote.
        data: the folder with the package's own policies.

    Raises:
        PolicyError: there is no such policy, or the directory holds no ``config.json``; the message says what to give.
    """
    text = str(path)
    refuse_endpoint(text)
    if text.startswith(BUILTIN):
        name = text.removeprefix(BUILTIN)
        carried = sorted(config.parent.name for config in data.glob("*/config.json"))
        if name not in carried:
            known = ", ".join(BUILTIN + other for other in carried) or "none"
            raise PolicyError(f"there is no policy {text!r} in this installation; it has {known}")
        return data / name
    directory = Path(text).expanduser()
    if not (directory / "config.json").is_file():
        what = "has no config.json" if directory.is_dir() else "is not a directory"
        raise PolicyError(f"policy {text!r} {what}; give a Hugging Face model directory, or {BUILTIN}microwiki")
    return directory


def refuse_endpoint(path: str) -> None:
    """Raise a PolicyError where ``path`` is an address: a chat endpoint gives no token ids and takes no weights."""
    if path.startswith(("http://", "https://")):
        raise PolicyError(
            f"policy {path!r} is an address: a chat endpoint gives text without token ids and takes no new weights, so "
            f"nothing can be trained through it. Train a model directory or {BUILTIN}microwiki; judge the endpoint "
            f"with at2po-agent eval -b {path} -m MODEL"
        )
