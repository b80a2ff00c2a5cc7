"""Low-rank adapters (LoRA) in a transformers model, through PEFT: added, saved, read, merged and switched off.

LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1): a linear layer's weight ``W [out, in]`` stays as
it is, and beside it ``B [out, r] · A [r, in]`` is trained, ``y = W x + (α / r) · B A x``. ``B`` begins as zeros, so the
policy begins as its base. The adapters stand inside the model itself: whatever forwards it uses them.

A folder with ``adapter_config.json`` holds adapters in PEFT's layout, and names the folder of their base model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from at2po_agent.policy.base import CausalLM, PolicyError
from at2po_agent.settings import above, at_least

if TYPE_CHECKING:
    from peft import PeftConfig
    from peft.tuners.lora import LoraLayer
    from torch import Tensor, nn

ALL_LINEAR = "all-linear"  # in place of names: every linear layer but the output
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # PEFT's names
_ADAPTER = "default"
_PREFIX = "base_model.model."  # PEFT's, of every name in the file


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (LoRA, arXiv 2106.09685) that are trained in place of the weights."""

    rank: int = at_least(0, 0)  # rank of the adapters; 0: none, all weights are trained
    alpha: float = above(32.0, 0)  # the adapters' output is scaled by alpha / rank
    targets: tuple[str, ...] = (ALL_LINEAR,)  # or names of linear layers, such as q_proj


def add_lora(model: CausalLM, config: LoraConfig, seed: int) -> None:
    """Freeze a model and put adapters into it, which alone are trained from then on; they are float32.

    Args:
        model: changed in place.
        config: of a rank of at least 1.
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
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=ALL_LINEAR if list(config.targets) == [ALL_LINEAR] else list(config.targets),
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(Path(model.name_or_path).resolve()),
    )
    _inject(model, settings, seed)


def _inject(model: CausalLM, settings: PeftConfig, seed: int) -> None:
    import torch

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


def has_lora(model: CausalLM) -> bool:
    """Whether ``model`` has adapters."""
    return bool(_settings(model))


def _settings(model: CausalLM) -> Mapping[str, PeftConfig]:
    """PEFT's settings by adapter, which it keeps in the model."""
    return getattr(model, "peft_config", None) or {}


def merged_parameters(model: CausalLM) -> Iterator[tuple[str, Tensor]]:
    """A model's parameters, tied ones once, under the names of a model without adapters.

    Adapters are merged in one weight after the other: ``W + (α / r) · B A``, summed in float32, in the dtype of ``W``.
    """
    import torch

    layers: dict[str, LoraLayer] = dict(model.named_modules()) if has_lora(model) else {}
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
def without_lora(model: CausalLM) -> Iterator[None]:
    """Inside it ``model`` computes what its base does."""
    modules = model.modules() if has_lora(model) else ()
    layers: list[LoraLayer] = [module for module in modules if hasattr(module, "lora_A")]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def save_merged(model: CausalLM, folder: Path) -> None:
    """Write a Hugging Face folder of the model as one, without adapters."""
    model.save_pretrained(folder, state_dict=dict(merged_parameters(model)) if has_lora(model) else None)


def save_adapter(model: CausalLM, folder: Path) -> None:
    """Write the adapters in PEFT's layout, with the configuration of the model that they belong to."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    _settings(model)[_ADAPTER].save_pretrained(folder)
    state = {_saved_name(name): parameter.detach().contiguous() for name, parameter in _adapters(model).items()}
    save_file(state, folder / _WEIGHTS, metadata={"format": "pt"})


def load_adapter(model: CausalLM, folder: Path) -> None:
    """Copy the values in ``folder`` into the adapters that ``model`` has.

    Raises:
        PolicyError: they are of other layers or another rank.
    """
    import torch
    from safetensors.torch import load_file

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
            f"{folder} has LoRA adapters for the model in {base}, which is not there: restore it, or write its new "
            f"place as base_model_name_or_path in {folder / _CONFIG}"
        )
    return base


def attach_adapter(model: CausalLM, folder: Path) -> None:
    """Put the adapters in ``folder`` into their base model.

    Raises:
        PolicyError: they do not fit it.
    """
    _inject(model, _peft().PeftConfig.from_pretrained(folder), seed=0)
    load_adapter(model, folder)


def _adapters(model: CausalLM) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if ".lora_" in name}


def _saved_name(name: str) -> str:
    return _PREFIX + name.replace(f".{_ADAPTER}.", ".")


def _peft() -> ModuleType:
    try:
        return import_module("peft")
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise PolicyError("LoRA adapters need the package peft: pip install 'at2po[lora]'") from error
