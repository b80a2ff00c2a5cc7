from pathlib import Path

import pytest

from at2po_agent.judge.config import ModelConfig
from at2po_agent.judge.resolve import alias_files, default_split, env_ids, identity, label, load_resolved, resolve_alias
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


MINI = (
    '[mini]\nbase_url = "https://h/v1"\nmodel = "org/mini-1"\nkey_var = "K"\nprice_prompt = 1\nprice_completion = 2.5\n'
)


def user_file() -> Path:
    return alias_files()[-1]


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    user_file().parent.mkdir()


def test_an_alias_says_everything_about_an_endpoint():
    Path("endpoints.toml").write_text(MINI)
    assert resolve_alias(ModelConfig("mini")) == ModelConfig("org/mini-1", "https://h/v1", "K", 1, 2.5)
    assert resolve_alias(ModelConfig("other")) == ModelConfig("other")


def test_what_is_said_beside_it_and_the_nearer_file_come_first():
    user_file().write_text(MINI + '[far]\nbase_url = "http://far/v1"\n')
    Path("endpoints.toml").write_text('[mini]\nbase_url = "http://near/v1"\n')
    assert resolve_alias(ModelConfig("mini", key_var="MINE")) == ModelConfig("mini", "http://near/v1", "MINE")
    assert resolve_alias(ModelConfig("far")).base_url == "http://far/v1"
    elsewhere = ModelConfig("mini", base_url="http://given/v1")
    assert resolve_alias(elsewhere) == elsewhere


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mini", "not valid TOML"),
        ("mini = 3", "no table of base_url"),
        ('[mini]\nmodel = "x"', "has no base_url"),
        ('[mini]\nbase_url = "http://h"\nkey = "sk-secret-123"', "no 'key'; there are base_url, model, key_var"),
        ('[mini]\nbase_url = "http://h"\nkey_var = "sk-secret-123"', "name of an environment variable"),
        ('[mini]\nbase_url = "http://h"\nprice_prompt = "sk-secret-123"', "price_prompt is of the wrong type"),
        ('[mini]\nbase_url = "http://h"\nprice_prompt = 3', "set both"),
        ('[mini]\nbase_url = "h"', "give an address"),
    ],
)
def test_a_bad_file_is_told_without_repeating_what_could_be_a_key(text, message):
    Path("endpoints.toml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        resolve_alias(ModelConfig("mini"))
    assert "secret" not in str(caught.value)


MULTI = ["AT2PO-HotpotQA-v0", "AT2PO-2WikiMultiHopQA-v0", "AT2PO-MuSiQue-v0", "AT2PO-Bamboogle-v0"]
SINGLE = ["AT2PO-NQ-v0", "AT2PO-TriviaQA-v0", "AT2PO-PopQA-v0"]


def test_groups_are_the_papers_benchmarks_and_nothing_generated():
    assert env_ids(["multi-hop"]) == MULTI
    assert env_ids(["single-hop"]) == SINGLE
    assert env_ids(["all"]) == MULTI + SINGLE


def test_ids_names_and_groups_can_be_mixed_and_count_once():
    assert env_ids(["nq", "AT2PO-NQ-v0", "single-hop", "My-Own-v3"]) == [*SINGLE, "My-Own-v3"]
    assert env_ids(["microwiki"]) == ["AT2PO-MicroWiki-v0"]


@pytest.mark.parametrize(("named", "message"), [([], "name an environment"), (["hotpot"], "multi-hop.*all")])
def test_what_is_not_there_is_told_with_what_is(named, message):
    with pytest.raises(ConfigError, match=message):
        env_ids(named)


def test_the_split_is_test_else_dev_of_what_is_installed(monkeypatch, data_dir, tmp_path):
    monkeypatch.setenv("AT2PO_DATA", str(data_dir))
    expected = ["dev", "dev", "dev", "test", "test", "test", "test"]
    assert [default_split(id_) for id_ in MULTI + SINGLE] == expected
    assert default_split("AT2PO-MicroWiki-v0") == "test"
    monkeypatch.setenv("AT2PO_DATA", str(tmp_path))
    (tmp_path / "nq").mkdir()
    (tmp_path / "nq" / "dev.jsonl").write_text("{}")
    assert default_split("AT2PO-NQ-v0") == "dev"
    assert default_split("AT2PO-HotpotQA-v0") == "dev"  # its absence is said when it is opened
