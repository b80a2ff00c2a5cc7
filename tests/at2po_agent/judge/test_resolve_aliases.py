from pathlib import Path

import pytest

from at2po_agent.judge import resolve as aliases
from at2po_agent.judge.config import ModelConfig
from at2po_agent.judge.resolve import resolve_alias
from at2po_agent.settings import ConfigError

MINI = (
    '[mini]\nbase_url = "https://h/v1"\nmodel = "org/mini-1"\nkey_var = "K"\nprice_prompt = 1\nprice_completion = 2.5\n'
)


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(aliases.platformdirs, "user_config_path", lambda *_, **__: tmp_path / "user")
    (tmp_path / "user").mkdir()


def test_an_alias_says_everything_about_an_endpoint():
    Path("endpoints.toml").write_text(MINI)
    assert resolve_alias(ModelConfig("mini")) == ModelConfig("org/mini-1", "https://h/v1", "K", 1, 2.5)
    assert resolve_alias(ModelConfig("other")) == ModelConfig("other")


def test_what_is_said_beside_it_and_the_nearer_file_come_first():
    Path("user/endpoints.toml").write_text(MINI + '[far]\nbase_url = "http://far/v1"\n')
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
        ('[mini]\nbase_url = "http://h"\nprice_prompt = 3', "together"),
        ('[mini]\nbase_url = "h"', "give an address"),
    ],
)
def test_a_bad_file_is_told_without_repeating_what_could_be_a_key(text, message):
    Path("endpoints.toml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        resolve_alias(ModelConfig("mini"))
    assert "secret" not in str(caught.value)
