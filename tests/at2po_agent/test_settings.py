from __future__ import annotations

from pathlib import Path

import pytest

from at2po_agent.settings import ConfigError, to_yaml
from at2po_agent.training.config import load_config

GOOD = """\
env:
  id: AT2PO-MicroWiki-v0
  kwargs: {k: 1}
policy:
  path: builtin:microwiki
update:
  lr: 1e-5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(GOOD)
    return path


def error(path: Path | None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_file_over_defaults_and_overrides_over_file(file: Path):
    config = load_config(
        file, ["update.lr=2e-6", "env.kwargs.split_size=7", "train.max_seconds=300", "env.imports=[a, b]"]
    )
    assert config.update.lr == 2e-6
    assert config.env.kwargs == {"k": 1, "split_size": 7}
    assert config.train.max_seconds == 300.0
    assert config.env.imports == ("a", "b")
    assert config.rollout.questions == 64  # the paper's, untouched
    assert load_config(file).update.lr == 1e-5


def test_an_override_of_a_section_replaces_the_settings_in_it(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text(GOOD + "algorithm:\n  expansion: {chains: 6, rounds: 2}\n  credit: {value: leaf_mean}\n")
    config = load_config(path, ["algorithm={name: grpo, expansion: {n: 8}}"])
    assert config.algorithm.expansion == {"n": 8} and config.algorithm.credit == {"value": "leaf_mean"}
    assert "override 'train={steps: -1}': train.steps is -1" in error(path, "train={steps: -1}")


def test_a_file_is_laid_over_its_bases_in_order(file: Path):
    folder = file.parent / "rows"
    folder.mkdir()
    (folder / "slow.yaml").write_text("base: ../run.yaml\ntrain: {steps: 7}\nupdate: {lr: 3e-6, epochs: 2}\n")
    (folder / "big.yaml").write_text("update:\n  mini_batch: 16\n  lr: 4e-6\nalgorithm: {expansion: {n: 3, m: 4}}\n")
    row = folder / "row.yaml"
    row.write_text("base: [slow.yaml, big.yaml]\nname: row\nalgorithm: {expansion: {n: 5}}\n")
    config = load_config(row, ["train.steps=8"])
    assert (config.name, config.env.kwargs, config.policy.path) == ("row", {"k": 1}, "builtin:microwiki")
    assert (config.update.lr, config.update.epochs, config.update.mini_batch) == (4e-6, 2, 16)
    assert config.train.steps == 8 and config.algorithm.expansion == {"n": 5}
    (folder / "big.yaml").write_text("update:\n  mini_batch: 0\n")
    assert error(row).startswith(str(folder / "big.yaml") + ":2: update.mini_batch is 0")


def test_later_files_lie_over_earlier_ones_and_overrides_over_all(file: Path):
    over, last = file.parent / "over.yaml", file.parent / "last.yaml"
    over.write_text("update: {lr: 2e-5, epochs: 2}\ntrain: {steps: 7}\n")
    last.write_text("update: {lr: 3e-5}\nenv: {kwargs: {k: 2}}\n")
    config = load_config([file, over, last], ["train.steps=8"])
    assert (config.update.lr, config.update.epochs, config.train.steps) == (3e-5, 2, 8)
    assert config.env.kwargs == {"k": 2} and config.policy.path == "builtin:microwiki"
    assert load_config([file, last, over]).update.lr == 2e-5
    last.write_text("update: {lr: fast}\n")
    with pytest.raises(ConfigError, match=r"last\.yaml:1: update\.lr"):
        load_config([file, over, last])


def test_a_run_of_several_files_is_named_after_them_unless_one_names_it(file: Path):
    (over := file.parent / "v1.5.yaml").write_text("seed: 1\n")
    assert load_config(file).name == "at2po"
    assert load_config([file, over]).name == "run_v1.5"
    assert load_config([file, over], ["name=mine"]).name == "mine"
    file.write_text(GOOD + "name: its own\n")
    assert load_config([file, over]).name == "its own"


def test_a_file_with_another_algorithm_begins_with_none_of_the_settings_of_the_one_before(file: Path):
    rows = {
        "tree": "{name: at2po, expansion: {chains: 6, rounds: 1}, credit: {value: leaf_mean}}",
        "kl": "{name: grpo, objective: {kl_coef: 0.001}}",
        "again": "{name: grpo, expansion: {n: 4}}",
        "leaves": "{expansion: {n: 5}}",
    }
    for name, text in rows.items():
        (file.parent / f"{name}.yaml").write_text(f"algorithm: {text}\n")

    def composed(*names: str, overrides: tuple[str, ...] = ()) -> tuple[object, ...]:
        algorithm = load_config([file, *(file.parent / f"{name}.yaml" for name in names)], overrides).algorithm
        return algorithm.name, algorithm.expansion, algorithm.credit, algorithm.objective

    assert composed("tree", "kl") == ("grpo", {}, {}, {"kl_coef": 0.001})
    assert composed("kl", "again", "leaves") == ("grpo", {"n": 5}, {}, {"kl_coef": 0.001})
    assert composed("kl", "tree", "again") == ("grpo", {"n": 4}, {}, {})
    assert composed("leaves", "kl") == ("grpo", {"n": 5}, {}, {"kl_coef": 0.001})
    # One word changes one key.
    assert composed("kl", overrides=("algorithm.name=dapo",)) == ("dapo", {}, {}, {"kl_coef": 0.001})


def test_bases_that_cannot_be_used(tmp_path: Path):
    row, other = tmp_path / "row.yaml", tmp_path / "other.yaml"
    row.write_text("base: other.yaml\n")
    assert f"{other}: no such file" in error(row)
    other.write_text("base: row.yaml\n")
    assert "row.yaml: the file is its own base" in error(row)
    row.write_text("name: x\nbase: {file: other.yaml}\n")
    assert f"{row}:2: base is a file or a list of files" in error(row)


def test_settings_without_a_schema_are_added_to_by_name_and_replaced_as_a_whole(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text(GOOD + "algorithm:\n  expansion: {chains: 6, rounds: 2}\n")
    config = load_config(path, ["algorithm.expansion.rounds=3", "env.kwargs={}"])
    assert (config.algorithm.expansion, config.env.kwargs) == ({"chains": 6, "rounds": 3}, {})
    config = load_config(path, ["algorithm.name=grpo", "algorithm.expansion={n: 8}", "env.kwargs.search=tape:x"])
    assert (config.algorithm.expansion, config.env.kwargs) == ({"n": 8}, {"k": 1, "search": "tape:x"})


def test_the_written_configuration_is_rerunnable(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WHERE", "/data/x")
    config = load_config(
        file, ["env.kwargs.data_dir=${oc.env:WHERE}", "algorithm.expansion.rounds=3", "env.imports=[a]"]
    )
    assert config.env.kwargs["data_dir"] == "/data/x"
    monkeypatch.delenv("WHERE")
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("train.lr=3", ["override 'train.lr=3'", "no key 'train.lr'", "did you mean update.lr?"]),
        ("update.lrr=3", ["update.lr"]),
        ("zzzz=1", ["no key 'zzzz'", "--print-config"]),
        ("update.lr=fast", ["update.lr", "'fast'", "Float"]),
        ("update.schedule=step", ["update.schedule", "'cosine'"]),
        ("eval.every=2.5", ["eval.every", "Integer"]),
        ("deterministic=perhaps", ["deterministic", "perhaps"]),
        ("env=3", ["env is a section", "kwargs"]),
        ("env.kwargs=3", ["env.kwargs"]),
        ("env.id=null", ["env.id"]),
        ("train.steps=-1", ["override 'train.steps=-1'", "train.steps is -1", "at least 0"]),
        ("update.lr=nan", ["update.lr is nan"]),
        ("rollout.temperature=0", ["rollout.temperature", "above 0"]),
        ("train.steps", ["key=value"]),
        ("=3", ["key=value"]),
        ("env.kwargs={a: [}", ["not valid YAML"]),
        ("env.kwargs=" + "[" * 2000 + "]" * 2000, ["not valid YAML"]),
        ("policy.path=${oc.env: WHERE}", ["policy.path"]),
        ("env.id=${oc.env:AT2PO_NOT_SET}", ["env.id", "AT2PO_NOT_SET"]),
    ],
)
def test_a_wrong_override_names_its_key_and_what_is_wrong(file: Path, override: str, parts: list[str]):
    message = error(file, override)
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (GOOD + "train:\n  stepps: 3\n", [":9: ", "'train.stepps'", "train.steps?"]),
        (GOOD + "train:\n  steps: many\n", [":9: ", "train.steps", "'many'"]),
        (GOOD + "train:\n  steps: -4\n", [":9: ", "train.steps is -4"]),
        (GOOD + "train:\n", [":8: ", "train is a section"]),
        (GOOD + "env: {}\n", [":8", "duplicate key"]),
        ("a: b: c\n", [":1: ", "not valid YAML"]),
        ("\tname: x\n", [":1: ", "not valid YAML"]),
        ("- 1\n", [":1: ", "mapping"]),
        ("just text", [":1: ", "mapping"]),
        ("1: 2\n", ["no key '1'"]),
        ("", ["env.id is not set", "env.id=VALUE"]),
        ("policy: {path: p}\n", ["env.id is not set"]),
    ],
)
def test_a_wrong_file_names_the_line(tmp_path: Path, text: str, parts: list[str]):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    message = error(path)
    assert message.startswith(str(path))
    assert [part for part in parts if part not in message] == []


def test_files_that_cannot_be_read(tmp_path: Path):
    assert "no such file" in error(tmp_path / "missing.yaml")
    assert "cannot be read" in error(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    assert "cannot be read" in error(tmp_path / "binary.yaml")


@pytest.mark.fault("R8: a key in ${oc.env:…} is not stored with its value")
@pytest.mark.parametrize(
    "override",
    [
        "env.kwargs.x=${oc.env:HKEY}",
        "env.kwargs={a: [{b: 'Bearer ${oc.env:MY_TOKEN}'}]}",
        "env.id=${oc.env:DB_PASSWORD,none}",
        "name=${oc.decode:${oc.env:hf_token}}",
        "policy.path=${oc.env:SECRET_1}",
    ],
)
def test_a_variable_that_may_hold_a_secret_is_refused_in_a_training_run(file: Path, monkeypatch, override: str):
    for name in ("HKEY", "MY_TOKEN", "DB_PASSWORD", "hf_token", "SECRET_1"):
        monkeypatch.setenv(name, "very-secret")
    message = error(file, override)
    assert "would be stored with its value" in message and "very-secret" not in message
    file.write_text(file.read_text() + "\nname: ${oc.env:HKEY}\n")
    assert "would be stored with its value" in error(file)


@pytest.mark.parametrize("name", ["AT2PO_MODELS", "AT2PO_TOKENS", "HOME", "KEYS_DIR", "AUTHOR"])
def test_a_variable_that_holds_no_secret_stands_in_a_configuration(file: Path, monkeypatch, name: str):
    monkeypatch.setenv(name, "x")
    assert load_config(file, [f"env.kwargs.x=${{oc.env:{name}}}"]).env.kwargs["x"] == "x"
