"""A tiny policy whose chat template calls tools the way Qwen3's does, fitted to a few messages in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from at2po_agent.warmstart.new_model import TinyConfig, new_model

SIZE = TinyConfig(hidden_size=64, intermediate_size=128, layers=2, head_dim=16, max_positions=4096)

TOKENS = ("<|end|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")


def tool_tokenizer(chat_template: str, text: str) -> Any:
    """A byte-level BPE with ChatML's tokens whose pieces are those of ``text``, so that prompts like it are short."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([text] * 3, trainer)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in TOKENS[:3]])
    backend.add_tokens([AddedToken(token, normalized=False) for token in TOKENS[3:]])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|end|>")
    tokenizer.chat_template = chat_template
    return tokenizer


def fitted_policy(tokenizer: Any, episodes: Sequence[tuple[Sequence[int], Sequence[int]]], steps: int = 120) -> Any:
    """A two-layer Qwen3 that has learned to say each completion after its prompt, all equally often."""
    model = new_model(SIZE, tokenizer, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    width = max(len(prompt) + len(completion) for prompt, completion in episodes)
    ids = torch.full((len(episodes), width), tokenizer.pad_token_id)
    labels = torch.full_like(ids, -100)
    for i, (prompt, completion) in enumerate(episodes):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor([*prompt, *completion])
        labels[i, len(prompt) : end] = torch.tensor(completion)
    for _ in range(steps):
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def save(folder: Path, model: Any, tokenizer: Any) -> Path:
    """A Hugging Face folder of both."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
