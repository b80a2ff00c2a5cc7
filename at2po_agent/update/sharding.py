"""A model's weights, gradients and optimiser split over processes: FSDP (arXiv 2304.11277) as torch's ``fully_shard``.

With ``update.sharding=none`` each process has all of them instead, and gradients are summed once per optimiser step.
That is faster where a model is small, as nothing has to wait for a layer's weights.

Split, every layer is gathered when it is needed and dropped again, in the forward and in the backward, whose gradients
are summed over the processes where they are kept. ``whole`` and ``split`` pass plain tensors on as they are, so that
code which calls them is that of one process too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from at2po_agent.update.processes import Processes

M = TypeVar("M", bound=torch.nn.Module)


def shared(module: M, processes: Processes, device: torch.device) -> M:
    """A copy of a module that all processes hold together on their devices, a share of each weight in each of them.

    The whole one stays where it is, to be sampled from and saved.

    Args:
        module: the same in every process; a transformers model, or a module that holds one.
        processes: those of the run.
        device: of the split copy.
    """
    mesh = init_device_mesh(device.type, (processes.count,))
    here = next(module.parameters()).device
    twin = copy.deepcopy(module.to("cpu"))  # so that no device ever holds two whole models
    module.to(here)
    parts: list[torch.nn.Module] = [*_layers(twin), twin]
    for part in parts:
        # The root too, whose output layer would otherwise stay gathered after a forward that no backward follows.
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    for part in twin.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)  # a sum: the loss is divided by the totals of all processes
            part.set_force_sum_reduction_for_comms(True)  # which gloo has, and not NCCL's scaled sum
    return twin


def sum_gradients(parameters: Sequence[torch.nn.Parameter], processes: Processes) -> None:
    """Give every process the sum of all processes' gradients, the same bits in each; no gradient counts as zeros."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    # One exchange for all, as it is the number of exchanges that takes time, and not their size.
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat, group=processes.group)
    sums = torch.split(flat, [gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(sums, gradients, strict=True)])


def whole(tensor: Tensor) -> Tensor:
    """A split tensor in full; every process takes part. A plain tensor is itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def split(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's share of a full tensor, if ``like`` is split; otherwise the tensor itself."""
    if not isinstance(like, DTensor):
        return tensor
    # Without a source rank nobody sends: each process takes its share of the tensor that it has.
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def copy_weights(source: torch.nn.Module, target: torch.nn.Module) -> None:
    """Give ``target`` the trained weights of ``source``, whichever of the two is split; every process takes part."""
    if source is not target:
        for ours, theirs in zip(source.parameters(), target.parameters(), strict=True):
            if ours.requires_grad:  # of a model with LoRA adapters the others are the same in both
                theirs.copy_(split(whole(ours), theirs))


def _layers(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that transformers says must not be torn apart."""
    names: set[str] = set()
    for part in module.modules():
        names.update(getattr(part, "_no_split_modules", None) or ())
    return [part for part in module.modules() if type(part).__name__ in names]


def optimizer_state(optimizer: torch.optim.Optimizer, keep: bool) -> dict[str, Any]:
    """``optimizer.state_dict()`` with every tensor in full; every process takes part.

    Args:
        optimizer: of split or plain parameters.
        keep: whether this process wants the split ones; without it their place is empty, which needs no memory.
    """
    found = optimizer.state_dict()

    def full(value: Any) -> Any:
        if not isinstance(value, DTensor):
            return value
        tensor = whole(value)
        return tensor.cpu() if keep else tensor.new_empty(0)

    states = {index: {name: full(value) for name, value in state.items()} for index, state in found["state"].items()}
    return found | {"state": states}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take back what ``optimizer_state`` gave, by another number of processes too."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def ours(value: Any, parameter: Tensor) -> Any:
        is_alike = isinstance(value, Tensor) and value.shape == parameter.shape
        return split(value, parameter) if is_alike else value

    states = {
        index: {name: ours(value, parameters[index]) for name, value in entries.items()}
        for index, entries in state["state"].items()
    }
    optimizer.load_state_dict(state | {"state": states})
