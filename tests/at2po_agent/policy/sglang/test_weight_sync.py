"""What is sent to a server, and in which order; that real servers take it is in test_sglang_training.py."""

import base64
import io
import os
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.sglang.admin import SglangAdmin
from at2po_agent.policy.sglang.weight_sync import DiskSync, TensorSync
from tests.helpers.sglang_control import Controlled
from tests.helpers.sglang_double import serving
from tests.helpers.tiny_models import tiny


def test_the_folder_of_the_last_version_goes_when_the_next_is_there(tmp_path) -> None:
    model, sync = tiny(), DiskSync(tmp_path / "weights")
    with serving(Controlled(tiny())) as server:
        for label in ("a-0", "a-1"):
            with torch.no_grad():
                model.lm_head.weight.add_(1.0)
            sync.take(model, label)
            sync.send(SglangAdmin(server.url))
            assert [path.name for path in (tmp_path / "weights").iterdir()] == [label]
    (sent,) = {body["model_path"] for body in server.bodies if body.get("weight_version") == "a-1"}
    assert torch.equal(load_file(f"{sent}/model.safetensors")["lm_head.weight"], model.lm_head.weight)
    sync.close()
    assert not (tmp_path / "weights").exists()


def test_tensors_go_in_bounded_parts_and_only_the_last_changes_the_version() -> None:
    model, sync = tiny(), TensorSync(bucket_bytes=16_000)
    with serving(Controlled(tiny())) as server:
        sync.take(model, "a-3")
        taken = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        with torch.no_grad():
            model.lm_head.weight.zero_()  # after the weights were taken
        sync.send(SglangAdmin(server.url))
        got = dict(server.model.named_parameters())
        assert all(torch.equal(got[name], tensor) for name, tensor in taken.items())
    parts = [body for body in server.bodies if "serialized_named_tensors" in body]
    assert len(parts) > 2
    assert [body.get("weight_version") for body in parts] == [None] * (len(parts) - 1) + ["a-3"]
    assert [body["flush_cache"] for body in parts] == [False] * (len(parts) - 1) + [True]
    assert all(len(body["serialized_named_tensors"]) == 2 for body in parts)  # one for each tensor-parallel rank
    sizes = [
        sum(t.nbytes for _, t in pickle.load(io.BytesIO(base64.b64decode(body["serialized_named_tensors"][0]))))
        for body in parts
    ]
    assert max(sizes) <= max(16_000, *(t.nbytes for t in taken.values()))
    assert server.calls == [
        "pause_generation",
        "begin_weight_update",
        *["update_weights_from_tensor"] * len(parts),
        "end_weight_update",
        "continue_generation",
    ]


def test_an_update_that_an_earlier_trainer_left_open_is_ended_first() -> None:
    sync = TensorSync()
    with serving(Controlled(tiny())) as server:
        server.refuse["/begin_weight_update"] = 400
        sync.take(tiny(), "a-1")
        sync.send(SglangAdmin(server.url))
    assert server.calls[1:4] == ["begin_weight_update", "end_weight_update", "begin_weight_update"]
    assert server.version == "a-1"


def test_a_server_without_weight_updates_is_refused_by_name_and_takes_weights_from_disk(tmp_path) -> None:
    sync = TensorSync()
    with serving(Controlled(tiny())) as server:
        server.refuse["/begin_weight_update"] = 404  # as SGLang 0.5.17
        sync.take(tiny(), "a-1")
        with pytest.raises(PolicyError, match=r"no /begin_weight_update, .*before 0\.5\.18: .* engine\.sync=disk"):
            sync.send(SglangAdmin(server.url))
        assert server.calls == ["pause_generation", "begin_weight_update", "continue_generation"]
        server.refuse["/begin_weight_update"] = 404
        disk = DiskSync(tmp_path / "weights")
        disk.take(tiny(), "a-1")
        disk.send(SglangAdmin(server.url))
    assert server.version == "a-1"


def test_a_refused_update_is_closed_and_said(tmp_path) -> None:
    sync = TensorSync()
    with serving(Controlled(tiny())) as server:
        server.refuse["/update_weights_from_tensor"] = 400
        sync.take(tiny(), "a-1")
        with pytest.raises(PolicyError, match="not now"):
            sync.send(SglangAdmin(server.url))
    assert server.calls[-2:] == ["end_weight_update", "continue_generation"] and server.version == "default"


@pytest.mark.slow
def test_nobody_waits_for_the_memory_manager_to_read_what_a_trainer_said() -> None:
    """It outlives the trainer where a server has the memory open, so it must not hold the trainer's pipes open."""
    program = (
        "from at2po_agent.policy.sglang.weight_sync import TensorSync; sync = TensorSync()\n"
        "import contextlib, os, pathlib, sys\n"
        "for place in pathlib.Path('/proc').glob('[0-9]*'):\n"
        " with contextlib.suppress(OSError):  # processes end meanwhile\n"
        "  if 'torch_shm' in (place / 'comm').read_text() and b'AT2PO_MARK=' in (place / 'environ').read_bytes():\n"
        "    print(os.readlink(place / 'fd' / '2')); print('ours', file=sys.stderr)"
    )
    words = [sys.executable, "-W", "ignore", "-c", program]
    said = subprocess.run(words, env=os.environ | {"AT2PO_MARK": "1"}, capture_output=True, text=True, timeout=120)
    assert (said.stdout, said.stderr) == ("/dev/null\n", "ours\n")
