"""Weights, gradients and optimiser split over two processes are those of one. Whole updates: test_distributed.py."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from at2po_agent.update.processes import Processes
from at2po_agent.update.sharding import (
    copy_weights,
    load_optimizer_state,
    optimizer_state,
    shared,
    split,
    sum_gradients,
    whole,
)
from tests.helpers.gloo import outcomes

CPU = torch.device("cpu")


class Layer(torch.nn.Linear):
    """What must not be torn apart."""


class Model(torch.nn.Module):
    """Two layers and a head, with a name for layers as transformers' models have it."""

    _no_split_modules = ["Layer"]

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList([Layer(6, 6), Layer(6, 6)])
        self.head = torch.nn.Linear(6, 3)
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


def rows(rank: int) -> torch.Tensor:
    """The rows that a process forwards: others in each."""
    return torch.arange(24, dtype=torch.float64).reshape(4, 6)[2 * rank : 2 * rank + 2] / 10


def loss(model: torch.nn.Module, rank: int) -> torch.Tensor:
    return model(rows(rank)).square().sum()


def stepped(model: torch.nn.Module, *ranks: int) -> torch.optim.AdamW:
    """An optimiser after one step on the gradient of those processes' rows."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for rank in ranks:
        loss(model, rank).backward()
    optimizer.step()
    return optimizer


def alike(ours: Any, theirs: Any) -> bool:
    return all(torch.allclose(a, b, atol=1e-12) for a, b in zip(ours, theirs, strict=True))


def together_step(processes: Processes) -> dict[str, bool | int]:
    """A step by all, against a step by one. Called in two joined processes, as are the others below."""
    model = Model()
    before, alone = copy.deepcopy(model.state_dict()), copy.deepcopy(model)
    twin = shared(model, processes, CPU)
    held = sum(parameter.to_local().numel() for parameter in twin.parameters())
    optimizer, expected = stepped(twin, processes.rank), stepped(alone, 0, 1)
    found = {
        "held": held,
        "gradients": alike([whole(p.grad) for p in twin.parameters()], [p.grad for p in alone.parameters()]),
        "weights": alike(map(whole, twin.parameters()), alone.parameters()),
        "given is kept": alike(model.state_dict().values(), before.values()),
    }
    copy_weights(twin, model)
    found["to whole"] = alike(model.parameters(), alone.parameters())
    state = optimizer_state(optimizer, keep=processes.leads)["state"]
    if processes.leads:
        wanted = expected.state_dict()["state"]
        found["optimiser"] = all(alike([state[i]["exp_avg"]], [wanted[i]["exp_avg"]]) for i in wanted)
    else:
        found["memory"] = sum(entry["exp_avg"].numel() for entry in state.values())
    return found


def together_go_on(processes: Processes) -> dict[str, bool]:
    """All go on from the weights and the optimiser that one process left."""
    alone = Model()
    saved = stepped(alone, 0, 1)
    twin = shared(Model(), processes, CPU)
    copy_weights(alone, twin)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.1)
    load_optimizer_state(optimizer, copy.deepcopy(saved.state_dict()))
    for model, ranks, one in ((twin, [processes.rank], optimizer), (alone, [0, 1], saved)):
        one.zero_grad()
        for rank in ranks:
            loss(model, rank).backward()
        one.step()
    parameter = next(twin.parameters())
    again = split(whole(parameter).detach(), parameter)
    return {
        "weights": alike(map(whole, twin.parameters()), alone.parameters()),
        "split": torch.equal(again.to_local(), parameter.to_local()),
    }


def together_summed(processes: Processes) -> dict[str, Any]:
    """Gradients of models that are not split, of which the second process has only some."""
    model, alone = Model(), Model()
    (loss(model, 0) if processes.leads else model.head(rows(1)).sum()).backward()
    (loss(alone, 0) + alone.head(rows(1)).sum()).backward()
    sum_gradients(list(model.parameters()), processes)
    gradients = [parameter.grad for parameter in model.parameters()]
    return {
        "gradients": alike(gradients, [parameter.grad for parameter in alone.parameters()]),
        "bits": [gradient.view(torch.int64).flatten().tolist() for gradient in gradients if gradient is not None],
    }


@pytest.fixture(scope="module")
def real() -> dict[str, list[Any]]:
    return outcomes(__name__, "together_step", "together_go_on", "together_summed")


def test_a_step_by_two_processes_is_that_of_one(real: dict[str, list[Any]]) -> None:
    first, second = real["together_step"]
    assert first["held"] + second["held"] == sum(p.numel() for p in Model().parameters()) == 105
    for found in (first, second):
        assert found["gradients"] and found["weights"] and found["given is kept"] and found["to whole"], found
    assert first["optimiser"] and second["memory"] == 0


def test_two_processes_go_on_from_what_one_left(real: dict[str, list[Any]]) -> None:
    assert real["together_go_on"] == [{"weights": True, "split": True}] * 2


def test_gradients_are_summed_to_the_same_bits_in_every_process(real: dict[str, list[Any]]) -> None:
    first, second = real["together_summed"]
    assert first["gradients"] and first == second


def test_plain_tensors_are_whole_already() -> None:
    model = Model()
    tensor = next(model.parameters())
    assert whole(tensor) is tensor and split(tensor, tensor) is tensor
    optimizer = stepped(model, 0)
    other = torch.optim.AdamW(Model().parameters(), lr=0.1)
    load_optimizer_state(other, optimizer_state(optimizer, keep=True))
    ours, theirs = optimizer.state_dict()["state"], other.state_dict()["state"]
    assert all(torch.equal(ours[i]["exp_avg_sq"], theirs[i]["exp_avg_sq"]) for i in ours)


def test_only_trained_weights_are_copied() -> None:
    source, target = Model(), Model()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1.0)
    source.head.weight.requires_grad_(False)
    copy_weights(source, target)
    assert torch.equal(target.layers[0].weight, source.layers[0].weight)
    assert torch.equal(target.head.weight, Model().head.weight)
