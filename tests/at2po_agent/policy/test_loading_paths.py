from __future__ import annotations

from pathlib import Path

import pytest

from at2po_agent.commands import main as cli
from at2po_agent.policy.base import PolicyError
from at2po_agent.policy.loading import resolve_policy


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    """A package that carries two policies and a folder that is none."""
    for name in ("big", "small", "half-written"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for name in ("big", "small"):
        (tmp_path / "data" / name / "config.json").write_text("{}")
    return tmp_path / "data"


def test_builtin_names_a_policy_inside_the_package(carried: Path) -> None:
    assert resolve_policy("builtin:small", data=carried) == carried / "small"


@pytest.mark.parametrize("name", ["medium", "half-written", "", "../data/small", "."])
def test_an_unknown_builtin_is_an_error_that_lists_those_there_are(carried: Path, name: str) -> None:
    with pytest.raises(PolicyError, match=r"builtin:big, builtin:small") as caught:
        resolve_policy(f"builtin:{name}", data=carried)
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
