import json
from pathlib import Path

import pytest

from at2po_agent.commands import main as cli
from at2po_agent.judge import evaluation
from at2po_agent.judge.config import JudgeConfig, LimitConfig, ModelConfig, load_judge_config, split_query
from at2po_agent.rollouts.batch import RolloutConfig
from at2po_agent.rollouts.grow import Limits
from at2po_agent.settings import ConfigError, to_yaml

FLAGS = "-e nq -e multi-hop -m org/m -b http://h/v1 -k K -n 7 -r 2 -c 3 -T 0.5 --seed 4 --split dev --search embedded:x"
CONFIG = JudgeConfig(
    envs=("nq", "multi-hop"),
    model=ModelConfig("org/m", "http://h/v1", "K"),
    split="dev",
    questions=7,
    samples=2,
    concurrency=3,
    temperature=0.5,
    seed=4,
    search="embedded:x",
    env={"k": 5},
    limits=LimitConfig(retries=1),
)


def test_flags_overrides_and_a_file_give_the_same_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[JudgeConfig] = []

    def evaluate_all(cfg, overrides, **how):
        seen.append(load_judge_config(cfg, overrides))
        return 0

    monkeypatch.setattr(evaluation, "evaluate_all", evaluate_all)
    file = tmp_path / "eval.yaml"
    file.write_text(to_yaml(CONFIG))
    assert cli.main(["eval", *FLAGS.split(), "env.k=5", "limits.retries=1"]) == 0
    assert cli.main(["eval", "--cfg", str(file)]) == 0
    assert cli.main(["eval", "--cfg", str(file), "--resume", "seed=5"]) == 0  # no RUN: a setting
    assert seen[:2] == [CONFIG, CONFIG]
    assert seen[2].seed == 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("samples=0", "samples is 0, it must be at least 1"),
        ("temperature=-1", "at least 0"),
        ("format=xml", "format"),
        ("limits.retry=3", "did you mean limits.retries"),
        ("limits.max_turn_tokens=0", "limits.max_turn_tokens is 0, it must be at least 1"),
        ("expansion.chains=0", "override 'expansion.chains=0': expansion.chains is 0, it must be at least 1"),
        ("expansion.top_logprobs=1", "there is no key 'expansion.top_logprobs'"),
        ("model.price_prompt=1", "set both"),
    ],
)
def test_what_is_wrong_is_told_by_its_key(override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load_judge_config(None, ["model.name=m", override])


def test_the_limits_of_its_rollouts_are_the_limits_of_a_training_run_with_the_same_numbers():
    judged = LimitConfig(max_turn_tokens=7, max_prompt_tokens=9, max_response_tokens=11, search_retries=3, retries=5)
    trained = RolloutConfig(max_turn_tokens=7, max_prompt_tokens=9, max_response_tokens=11, retries=3)
    assert judged.rollout(max_context_tokens=13) == trained.limits(max_context_tokens=13)
    assert LimitConfig().rollout() == RolloutConfig().limits(None) == Limits()


SECRET = "sk-0123456789-very-secret"


@pytest.mark.fault("item 28: keys in addresses")
@pytest.mark.parametrize(
    "address",
    [
        f"https://u:{SECRET}@h/v1",
        f"https://{SECRET}@h/v1",
        f"https://h/v1#{SECRET}",
        f"https://h/v1?key={SECRET}",
        f"https://h/v1?api-version=2024-10-21&key={SECRET}",
        f"https://h/v1?api-version={SECRET}",
        f"https://h/v1?{SECRET}",
        f"https://h:{SECRET}/v1",
        f"https://[{SECRET}/v1",
        f"{SECRET}",
        f"ftp://h/{SECRET}",
    ],
)
def test_an_address_that_may_hold_a_key_is_refused_without_repeating_it(address: str):
    with pytest.raises(ConfigError, match=r"model\.base_url \(-b\)") as caught:
        load_judge_config(None, ["model.name=m", f"model.base_url={json.dumps(address)}"])
    assert SECRET not in str(caught.value)


@pytest.mark.fault("W: Azure's address with ?api-version=")
@pytest.mark.parametrize("version", ["2024-10-21", "2025-01-01-preview", "preview"])
def test_azures_version_is_the_only_query(version: str):
    url = f"https://h/openai/deployments/D?api-version={version}"
    assert load_judge_config(None, ["model.name=m", f"model.base_url={url}"]).model.base_url == url
    assert split_query(url) == ("https://h/openai/deployments/D", {"api-version": version})
