"""Low-rank adapters (LoRA) in a transformers model, through PEFT: added, saved, read, merged and switched off.

LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1): a linear layer's weight ``W [out, in]`` stays as
it is, and beside it ``B [out, r] · A [r, in]`` is trained, ``y = W x + (α / r) · B A x``. ``B`` begins as zeros, so the
policy begins as its base. The adapters stand inside the model itself: whatever forwards it uses them.

A folder with ``adapter_config.json`` holds adapters in PEFT's layout, and names the folder of their base model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from at2po_agent.policy.base import PolicyError

ALL_LINEAR = "all-linear"  # in place of names: every linear layer but the output
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # PEFT's names
_ADAPTER = "default"
_PREFIX = "base_model.model."  # PEFT's, of every name in the file


def add_lora(model: Any, *, rank: int, alpha: float, targets: Sequence[str], seed: int) -> None:
    """Freeze a model and put adapters into it, which alone are trained from then on; they are float32.

    Args:
        model: a transformers model, changed in place.
        rank: ``r``, at least 1.
        alpha: ``α``; the adapters' part is scaled by ``α / r``.
        targets: names of linear layers, such as ``q_proj``; or only ``all-linear``.
        seed: of ``A``'s initial values.

    Raises:
        PolicyError: PEFT is not installed, the model has adapters already, or no layer has such a name.
    """
    peft = _peft()
    if has_lora(model):
        raise PolicyError(
            "the policy is a LoRA adapter already, and lora.rank would add a second one: write the two as one model "
            "with at2po-agent export, and train that"
        )
    settings = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=ALL_LINEAR if list(targets) == [ALL_LINEAR] else list(targets),
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(Path(model.name_or_path).resolve()),
    )
    _inject(model, settings, seed)


def _inject(model: Any, settings: Any, seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            _peft().inject_adapter_in_model(settings, model, _ADAPTER)
        except ValueError as error:
            raise PolicyError(f"lora.targets: {error}") from error
    outer = (model.get_input_embeddings(), model.get_output_embeddings())
    if any(hasattr(layer, "base_layer") for layer in outer):
        raise PolicyError("lora.targets: embeddings and the output layer stay as they are; name layers between them")
    for parameter in _adapters(model).values():
        parameter.data = parameter.data.float()


def has_lora(model: Any) -> bool:
    """Whether ``model`` has adapters."""
    return bool(getattr(model, "peft_config", None))


def merged_parameters(model: Any) -> Iterator[tuple[str, Tensor]]:
    """A model's parameters, tied ones once, under the names of a model without adapters.

    Adapters are merged in one weight after the other: ``W + (α / r) · B A``, summed in float32, in the dtype of ``W``.
    """
    layers = dict(model.named_modules()) if has_lora(model) else {}
    adapters = _adapters(model).keys() if layers else ()
    for name, parameter in model.named_parameters():
        if name in adapters:
            continue
        path, base, leaf = name.rpartition("base_layer.")
        weight = parameter.detach()
        if base and leaf == "weight":
            with torch.no_grad():
                weight = (weight.float() + layers[path[:-1]].get_delta_weight(_ADAPTER)).to(weight.dtype)
        yield path + leaf, weight


@contextmanager
def without_lora(model: Any) -> Iterator[None]:
    """Inside it ``model`` computes what its base does."""
    layers = [module for module in model.modules() if hasattr(module, "lora_A")] if has_lora(model) else []
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def save_merged(model: Any, folder: Path) -> None:
    """Write a Hugging Face folder of the model as one, without adapters."""
    model.save_pretrained(folder, state_dict=dict(merged_parameters(model)) if has_lora(model) else None)


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapters in PEFT's layout, with the configuration of the model that they belong to."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    model.peft_config[_ADAPTER].save_pretrained(folder)
    state = {_saved_name(name): parameter.detach().contiguous() for name, parameter in _adapters(model).items()}
    save_file(state, folder / _WEIGHTS, metadata={"format": "pt"})


def load_adapter(model: Any, folder: Path) -> None:
    """Copy the values in ``folder`` into the adapters that ``model`` has.

    Raises:
        PolicyError: they are of other layers or another rank.
    """
    saved, adapters = load_file(folder / _WEIGHTS), _adapters(model)
    here = {_saved_name(name): parameter.shape for name, parameter in adapters.items()}
    there = {name: tensor.shape for name, tensor in saved.items()}
    if here != there:
        name = min(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
        shapes = [list(shapes[name]) if name in shapes else "no such layer" for shapes in (there, here)]
        raise PolicyError(f"{folder} has other LoRA adapters than the model: {name} is {shapes[0]}, not {shapes[1]}")
    with torch.no_grad():
        for name, parameter in adapters.items():
            parameter.copy_(saved[_saved_name(name)])


def base_of(folder: Path) -> Path | None:
    """The folder of the model that the adapters in ``folder`` belong to; None where it holds no adapters.

    Raises:
        PolicyError: it is not there any more.
    """
    if not (folder / _CONFIG).is_file():
        return None
    base = Path(_peft().PeftConfig.from_pretrained(folder).base_model_name_or_path)
    if not (base / "config.json").is_file():
        raise PolicyError(
            f"{folder} holds LoRA adapters of the model in {base}, which is not there: put it back, or write its new "
            f"place as base_model_name_or_path in {folder / _CONFIG}"
        )
    return base


def attach_adapter(model: Any, folder: Path) -> None:
    """Put the adapters in ``folder`` into their base model.

    Raises:
        PolicyError: they do not fit it.
    """
    _inject(model, _peft().PeftConfig.from_pretrained(folder), seed=0)
    load_adapter(model, folder)


def _adapters(model: Any) -> dict[str, Any]:
    return {name: parameter for name, parameter in model.named_parameters() if ".lora_" in name}


def _saved_name(name: str) -> str:
    return _PREFIX + name.replace(f".{_ADAPTER}.", ".")


def _peft() -> Any:
    try:
        import peft
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise PolicyError("LoRA adapters need the package peft: pip install 'at2po[lora]'") from error
    return peft
