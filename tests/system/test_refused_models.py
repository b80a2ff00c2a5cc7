"""Models that cannot be trained, or not run at all: every command that takes one answers in one line.

One file beside the commands' own, as the rule is the same for all of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    CohereConfig,
    Gemma2Config,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    T5Config,
)

from at2po_agent.commands.main import main
from at2po_agent.policy.loading import load_policy, positions
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
        for config in (MISTRAL, QWEN2)
    ),
    *((command, config, "") for command in EVERY for config in (GEMMA2, T5)),
    ("train", COHERE, "scales or caps its logits"),
]


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


@pytest.mark.parametrize("config", [MISTRAL, QWEN2])
def test_a_model_that_is_only_run_has_the_positions_of_its_window(config: PreTrainedConfig, tmp_path: Path) -> None:
    assert positions(load_policy(store(tmp_path, config))[0]) == 1024
