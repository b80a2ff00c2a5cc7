"""Configurations that are found by name, from any directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from at2po_agent.config_files import FOLDER, locate, packaged, read_yaml, summary
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import load_config


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        locate(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_name_is_unique_and_every_file_says_in_one_line_what_it_is() -> None:
    files = list(FOLDER.rglob("*.*"))
    assert len(files) == len(packaged()) > 30
    for name, path in packaged().items():
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# ") and summary(path).endswith("."), name
        assert len(summary(path)) < 120


def test_nothing_of_one_task_is_left_in_another() -> None:
    """Arguments of an environment are replaced as a whole where a file has them."""
    envs = [env for path in packaged().values() if (env := read_yaml(path).get("env", {})).get("id")]
    assert len(envs) > 5 and all("kwargs" in env for env in envs)


def test_a_file_wins_and_a_folder_does_not(elsewhere: Path) -> None:
    assert locate("quickstart") == FOLDER / "runs" / "quickstart.yaml"
    (elsewhere / "quickstart").mkdir()
    assert locate("quickstart") == FOLDER / "runs" / "quickstart.yaml"
    (elsewhere / "maze").write_text("name: mine\n")
    assert locate("maze") == Path("maze")
    assert load_config(["quickstart", "maze"]).name == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quikstart", "there is no file and no packaged configuration 'quikstart'; did you mean quickstart? "),
        ("zzz", "no packaged configuration 'zzz'; `at2po-agent configs` lists them"),
        ("none.yaml", "none.yaml: no such file"),
        ("examples/configs/quickstart.yaml", "no such file; the packaged one of this name is --cfg quickstart"),
    ],
)
def test_what_is_nowhere_is_one_line(name: str, message: str) -> None:
    assert message in refused(name)


def test_a_file_may_be_laid_over_packaged_ones(elsewhere: Path) -> None:
    (elsewhere / "mine.yaml").write_text("base: [qwen3-4b, multi-hop, grpo]\nname: mine\ntrain: {steps: 3}\n")
    composed = load_config(["qwen3-4b", "multi-hop", "grpo"], ["name=mine", "train.steps=3"])
    assert load_config("mine.yaml") == composed
    (elsewhere / "mine.yaml").write_text("base: qwen3-4\n")
    with pytest.raises(ConfigError, match="did you mean qwen3-4b"):
        load_config("mine.yaml")
