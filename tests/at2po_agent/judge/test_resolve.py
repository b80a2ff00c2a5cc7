from pathlib import Path

import pytest

from at2po_agent.judge.config import ModelConfig
from at2po_agent.judge.resolve import identity, label, load_resolved
from at2po_agent.policy.loading import resolve_policy
from at2po_agent.settings import ConfigError


def test_local_models_are_known_by_their_files(tmp_path: Path):
    config = load_resolved(None, ["envs=[nq]", "model.name='builtin:microwiki'"])
    assert config.model.name == "builtin:microwiki"
    first = identity(config.model)
    copied = tmp_path / "copy"
    copied.mkdir()
    for file in resolve_policy("builtin:microwiki").iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    resolved = load_resolved(None, ["envs=[nq]", f"model.name={copied}"])
    assert identity(resolved.model) == {**first, "name": "copy"}
    (copied / "config.json").write_text((copied / "config.json").read_text() + " ")
    assert identity(resolved.model)["files"] != first["files"]


def test_names_are_short_and_say_the_step():
    assert label(ModelConfig("runs/quickstart-1/checkpoints/step_000060/model")) == "quickstart-1-step_000060"
    assert label(ModelConfig("org/model", "http://h/v1")) == "org/model"
    assert label(ModelConfig("folder/policy")) == "policy"


def test_what_is_neither_local_nor_an_alias_needs_an_address():
    with pytest.raises(ConfigError, match=r"endpoints\.toml.*-b http://HOST/v1"):
        load_resolved(None, ["envs=[nq]", "model.name=gpt-9"])
