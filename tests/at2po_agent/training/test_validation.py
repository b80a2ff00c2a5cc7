"""What is wrong with a configuration is told before anything is loaded, and without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from at2po_agent.config_files import packaged
from at2po_agent.policy.base import PolicyError
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import load_config
from at2po_agent.training.validation import validate
from tests.helpers.paper_rows import rows
from tests.helpers.places import EXAMPLES, ROOT

STALE = ["train.staleness=1", "engine.kind=sglang", "deterministic=false"]
SMALL = ["policy.path=builtin:microwiki", "env.id=AT2PO-MicroWiki-v0"]


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["env.id=at2po_env:AT2PO-MicroWiki-v0"],
        ["env.id=AT2PO-MicroWiki"],
        ["engine.kind=sglang", "deterministic=false"],
        STALE,
        ["algorithm={name: grpo, expansion: {n: 8}}", "lora.rank=8"],
    ],
)
def test_what_is_right_passes(changes: list[str]) -> None:
    validate(load_config(None, [*SMALL, *changes]))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (["algorithm.name=ppo"], ConfigError, "algorithm.name: there is no 'ppo'"),
        (["algorithm.expansion.chians=3"], ConfigError, "algorithm.expansion.chians.*did you mean chains"),
        (["env.id=AT2PO-Nothing-v0"], ConfigError, "env.id: .*AT2PO-Nothing"),
        (["env.id=no_such_module:X-v0"], ConfigError, "no_such_module"),
        (["env.imports=[no_such_module]"], ConfigError, "no_such_module"),
        (["policy.path=builtin:nothing"], PolicyError, "builtin:nothing.*it has .*builtin:microwiki"),
        (["policy.path=/nowhere"], PolicyError, "/nowhere.*is not a directory"),
        (["engine.kind=sglang"], ConfigError, "set deterministic=false"),
        (["engine={kind: sglang, router: http://x}", "deterministic=false"], ConfigError, "engine.router needs"),
        (["train.staleness=1"], ConfigError, "train.staleness=1 .*deterministic=true.*set deterministic=false"),
        ([*STALE, "engine.kind=local"], ConfigError, "train.staleness=1 .*engine.kind=local.*set engine.kind=sglang"),
        ([*STALE, "engine.release_memory=true"], ConfigError, "train.staleness=1 .*engine.release_memory"),
        ([*STALE, "engine.sync=distributed"], ConfigError, "train.staleness=1 .*engine.sync to disk or tensors"),
        ([*STALE, "update.old_logprobs=recompute"], ConfigError, "train.staleness=1 .*old_logprobs=rollout"),
    ],
)
def test_what_is_wrong_is_named(changes: list[str], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        validate(load_config(None, [*SMALL, *changes]))


@pytest.mark.parametrize(
    ("setting", "package", "extra"),
    [
        ("lora.rank=8", "peft", "lora"),
        ("log.tensorboard=true", "tensorboard", "tensorboard"),
        ("log.wandb_project=p", "wandb", "wandb"),
    ],
)
def test_a_missing_package_is_named(setting: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    key = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"{key} needs the package {package}: pip install 'at2po\[{extra}\]'"):
        validate(load_config(None, [*SMALL, setting]))


WITHOUT_TORCH = """
import sys
sys.modules.update({"torch": None, "transformers": None})
"""
TRAINING = """
from at2po_agent.training.config import load_config
from at2po_agent.training.validation import validate
for files in sys.argv[1:]:
    validate(load_config(files.split(","), ["policy.path=builtin:microwiki"]))
"""
STUDY = """
from at2po_agent.study.cells import check_cells
from at2po_agent.study.config import load_study
for name in sys.argv[1:]:
    check_cells(load_study(name, ["out=/nowhere"]))
"""
WARM_START = """
from at2po_agent.warmstart.run import load_warm_start
for path in sys.argv[1:]:
    load_warm_start(path, ["model.path=builtin:microwiki"])
"""
EVALUATION = """
from at2po_agent.judge.config import load_judge_config
from at2po_agent.judge.tree.search import check_tree
for path in sys.argv[1:]:
    check_tree(load_judge_config(path, ["model.name=builtin:microwiki", "envs=[AT2PO-MicroWiki-v0]"]))
"""


def shipped(folder: str) -> list[str]:
    """The names of the packaged configurations in a folder."""
    return [name for name, path in packaged().items() if path.parent.name == folder]


EXAMPLE = EXAMPLES / "configs"
RUNS = [*shipped("runs"), str(EXAMPLE / "hotpotqa_smollm2_train.yaml")]
WARM_STARTS = [*shipped("warm-starts"), str(EXAMPLE / "hotpotqa_smollm2_warmstart.yaml")]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param(TRAINING, RUNS, id="train"),
        pytest.param(TRAINING, [",".join(row) for row in rows()], id="paper", marks=pytest.mark.slow),
        pytest.param(STUDY, shipped("studies"), id="study"),
        pytest.param(EVALUATION, shipped("evaluations"), id="evaluation"),
        pytest.param(WARM_START, WARM_STARTS, id="warm-start"),
    ],
)
def test_every_shipped_configuration_is_checked_without_torch(code: str, words: list[str]) -> None:
    assert len(words) >= 2
    line = [sys.executable, "-c", WITHOUT_TORCH + code, *words]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
