"""Models that cannot be trained, or not run at all: every command that takes one answers in one line.

One file beside the commands' own, as the rule is the same for all of them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BertConfig,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    MiniCPM3Config,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    T5Config,
)

from at2po_agent.commands.main import main
from at2po_agent.policy.architecture import positions
from at2po_agent.policy.loading import load_policy, resolve_policy
from tests.helpers.real_tokenizers import byte_bpe
from tests.helpers.tiny_models import CODEC

WORLD = "{world: tiny, dialect: bare, k: 1, max_searches: 1}"
SIZES = {"vocab_size": CODEC.vocab_size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048}
MISTRAL = MistralConfig(**SIZES, sliding_window=1024)
QWEN2 = Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=1024, max_window_layers=0)
GEMMA2 = Gemma2Config(**SIZES, head_dim=8)
T5 = T5Config(vocab_size=CODEC.vocab_size, d_model=32, d_ff=48, num_layers=2, num_heads=4, d_kv=8)
COHERE = CohereConfig(**SIZES, logit_scale=0.1)
GRANITE = GraniteConfig(**SIZES, logits_scaling=8.0)
MINICPM = MiniCPM3Config(**SIZES | {"num_key_value_heads": 4}, dim_model_base=16)
BERT = BertConfig(**SIZES)
SCALED = (COHERE, GRANITE, MINICPM)


def store(folder: Path, config: PreTrainedConfig) -> Path:
    torch.manual_seed(0)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    kind.from_config(config).save_pretrained(folder / "model")
    byte_bpe().save_pretrained(folder / "model")
    return folder / "model"


def call(command: str, model: Path, folder: Path) -> int:
    policy = [f"policy.path={model}", "policy.device=cpu", "env.id=AT2PO-MicroWiki-v0", f"env.kwargs={WORLD}"]
    policy += ["rollout={questions: 2, max_turn_tokens: 8}", "train.steps=1", "eval.questions=0"]
    warm_start = folder / "warm.yaml"
    warm_start.write_text(f"env: {{id: AT2PO-MicroWiki-v0, kwargs: {WORLD}}}\nepisodes: 2\neval: {{questions: 1}}\n")
    arguments = {
        "train": [*policy, f"run_dir={folder / 'run'}"],
        "plan": [*policy, "--memory", "8"],
        "eval": ["-e", "AT2PO-MicroWiki-v0", "-m", str(model), "-n", "1", "env={world: tiny, max_searches: 1}"],
        "warm-start": ["--cfg", str(warm_start), f"model.path={model}", f"output={folder / 'warm'}"],
        "retokenise": [str(model), "AT2PO-MicroWiki-v0", "--questions", "1", "world=tiny"],
    }
    return main([command, *arguments[command]])


EVERY = ("train", "plan", "eval", "warm-start", "retokenise")
REFUSED = [
    *(
        (command, config, "layers without full attention")
        for command in ("train", "plan")
        for config in (MISTRAL, QWEN2, GEMMA2)
    ),
    *((command, GEMMA2, "scaled_dot_product_attention") for command in ("eval", "warm-start", "retokenise")),
    *((command, T5, "an encoder and a decoder") for command in EVERY),
    *((command, BERT, "a bert model is an encoder") for command in EVERY),
    *((command, config, "scales or caps its logits") for command in ("train", "plan") for config in SCALED),
]
NONE = [
    {"num_hidden_layers": "x"},
    {"hidden_size": -5},
    {"num_attention_heads": 0},
    {"model_type": [1]},
    {"head_dim": 0},
]
NONE += [{"hidden_act": "no such"}, {"rope_parameters": 5}, {"num_key_value_heads": 3}, {"dtype": "float99"}, None]


@pytest.mark.fault("V: sliding windows and other models that are refused")
@pytest.mark.parametrize(("command", "config", "why"), REFUSED, ids=lambda value: getattr(value, "model_type", None))
def test_a_model_that_cannot_be_used_is_one_line(
    command: str,
    config: PreTrainedConfig,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(command, store(tmp_path, config), tmp_path) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("at2po-agent: error: ")
    assert why in line
    assert not (tmp_path / "run").exists()


@pytest.mark.fault("item 29: a config.json that transformers fails on with a traceback")
@pytest.mark.parametrize("change", NONE, ids=str)
@pytest.mark.parametrize("command", ["plan", "retokenise"])
def test_a_configuration_with_a_value_that_is_none_is_one_line(
    command: str,
    change: dict[str, object] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model = Path(shutil.copytree(resolve_policy("builtin:microwiki"), tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(change and config | change))
    assert call(command, model, tmp_path) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("at2po-agent: error: ")


@pytest.mark.parametrize("config", [MISTRAL, QWEN2])
def test_a_model_that_is_only_run_has_the_positions_of_its_window(config: PreTrainedConfig, tmp_path: Path) -> None:
    assert positions(load_policy(store(tmp_path, config))[0]) == 1024
