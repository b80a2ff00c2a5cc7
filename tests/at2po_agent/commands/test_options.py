from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from at2po_agent.commands.main import main
from at2po_agent.commands.options import env_words
from at2po_agent.judge.resolve import env_ids
from tests.helpers.places import ROOT


def completed(line: str, folder: Path) -> list[str]:
    """The words that a shell offers at the end of a line."""
    answer = folder / "answer"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    point = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "at2po_agent"], env={**os.environ, **asked, **point}, cwd=folder, check=True)
    return [word.strip() for word in answer.read_text().splitlines()]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("at2po-agent exp", ["export", "export-traces"]),
        ("at2po-agent train --cfg qu", ["quickstart", "quickstart_six", "quick.yaml"]),
        ("at2po-agent eval -e AT2PO-Mu", ["AT2PO-MuSiQue-v0"]),
    ],
)
def test_a_shell_completes_commands_names_and_ids(line: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "quick.yaml").touch()
    assert sorted(completed(line, tmp_path)) == sorted(words)


def test_every_word_of_an_environment_is_one_that_eval_knows() -> None:
    assert all(env_ids([word]) for word in env_words())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["train", "--cfg", "quickstart", "--cfg", "grpo", "seed=7"], "name: grpo"),
        (["plan", "--cfg", "quickstart", "seed=7"], "name: quickstart"),
        (["warm-start", "--cfg", "warmstart_microsql", "seed=7"], "seed: 7"),
        (["study", "--cfg", "ablations", "seeds=[7]"], "config: quickstart"),
        (["eval", "--cfg", "paper-eval", "-m", "builtin:microwiki", "seed=7"], "name: builtin:microwiki"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_every_command_with_cfg_prints_the_configuration_and_ends(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert line in printed and ("seed: 7" in printed or "- 7\n" in printed)
    assert list(tmp_path.iterdir()) == []
