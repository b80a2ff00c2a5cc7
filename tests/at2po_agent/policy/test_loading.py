"""Model directories that are whole, and all the ways in which one is not."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import at2po_agent
from at2po_agent.commands import main as cli
from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.loading import PolicyConfig, device_of, load_model, load_policy, resolve_policy
from at2po_env.state import Segment
from tests.helpers.places import ROOT
from tests.helpers.real_tokenizers import byte_bpe
from tests.helpers.tiny_models import tiny

JUNK = bytes(range(128, 256)) * 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny().save_pretrained(tmp_path)
    byte_bpe().save_pretrained(tmp_path)
    return tmp_path


def test_a_whole_directory_gives_its_weights_and_its_tokenizer(folder: Path) -> None:
    model, codec = load_policy(folder, torch.bfloat16)
    assert model.dtype == torch.bfloat16 and model.config._attn_implementation == "sdpa"
    for name, tensor in tiny().state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor.bfloat16())
    ids = codec.observation((Segment("Grüße", data=True),))
    assert ids and codec.decode_action(ids) == "Grüße"


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def junk(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(JUNK)


def changed(**values: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | values))

    return change


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("config.json"), "no model in"),
        (junk("config.json"), "config.json cannot be used"),
        (changed(model_type="no-such-model"), "no-such-model"),
        (changed(hidden_size=16), "cannot be loaded"),
        (without("model.safetensors"), "model.safetensors"),
        (junk("model.safetensors"), "cannot be loaded"),
        (without_tokenizer, "no tokenizer in"),
        (junk("tokenizer.json"), "cannot be loaded"),
        (lambda folder: (folder / "tokenizer.json").write_text('{"a": 1}'), "cannot be loaded"),
    ],
)
def test_what_is_not_whole_is_one_error(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(PolicyError, match=message) as caught:
        load_policy(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_weights_that_are_missing_are_never_made_up(folder: Path) -> None:
    changed(num_hidden_layers=3, layer_types=["full_attention"] * 3)(folder)
    with pytest.raises(PolicyError, match=r"lacks 11 of its weights, such as model\.layers\.2\."):
        load_policy(folder)


def test_builtin_names_a_policy_inside_the_package() -> None:
    assert resolve_policy("builtin:microwiki") == Path(at2po_agent.__file__).parent / "data" / "microwiki"


@pytest.mark.parametrize("name", ["medium", "", "../data/microwiki", "."])
def test_an_unknown_builtin_is_an_error_that_lists_those_there_are(name: str) -> None:
    with pytest.raises(PolicyError, match="builtin:microwiki") as caught:
        resolve_policy(f"builtin:{name}")
    assert f"builtin:{name}" in str(caught.value)


def test_all_else_is_a_directory_with_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve_policy(tmp_path) == resolve_policy(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert resolve_policy(f"~/{tmp_path.name}") == tmp_path


def test_a_folder_without_a_model_and_no_folder_at_all_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"has no config\.json"):
        resolve_policy(tmp_path)
    with pytest.raises(PolicyError, match="is not a directory"):
        resolve_policy(tmp_path / "missing")


def test_nothing_is_trained_through_a_chat_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "policy.path=https://host/v1", "env.id=AT2PO-MicroWiki-v0", "env.kwargs.world=tiny"]) == 2
    said = capsys.readouterr().err
    assert "nothing can be trained through it" in said and "at2po-agent eval -b https://host/v1" in said
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PolicyError, match="nothing can be trained through it"):  # nor warm-started, nor imitated
        resolve_policy("http://host/v1")


@pytest.mark.fault("item 28: no code of a model is run")
def test_every_call_that_loads_a_model_or_tokenizer_refuses_its_code():
    """transformers asks on a terminal where ``trust_remote_code`` is not given, and runs the code on a yes."""
    loaders = re.compile(r"(Auto\w+\.(from_pretrained|from_config)|library\.SentenceTransformer)$")
    calls = [
        (file.relative_to(ROOT), call)
        for folder in ("at2po_agent", "search_backend", "at2po_env", "envs", "benchmarks", "examples")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and loaders.search(ast.unparse(call.func))
    ]
    assert len(calls) > 5
    for file, call in calls:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("trust_remote_code") == "False", (str(file), call.lineno)


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_of("auto") == "cpu"
    with pytest.raises(PolicyError, match="device=cuda, but torch finds no GPU here"):
        load_model(PolicyConfig("builtin:microwiki", device="cuda"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert (device_of("auto"), device_of("cuda"), device_of("cpu")) == ("cuda", "cuda", "cpu")
