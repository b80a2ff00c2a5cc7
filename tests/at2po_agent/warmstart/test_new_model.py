from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from at2po_agent.warmstart.new_model import TAGS, TinyConfig, new_model, train_tokenizer

SYLLABLES = ("bar", "del", "fin", "gos", "kul", "mor", "nap", "ril", "sut", "tam", "vek", "zon")


def name(dice: random.Random) -> str:
    return "".join(dice.choice(SYLLABLES) for _ in range(3)).capitalize()


def texts(seed: int, count: int = 1500) -> list[str]:
    dice = random.Random(seed)
    return [
        f"<search> {name(dice)} birthplace</search>"
        if i % 2
        else f"{name(dice)} was born in {dice.randint(1000, 1999)}."
        for i in range(count)
    ]


TOKENIZER = train_tokenizer(texts(0), 400)
CONFIG = TinyConfig(vocab_size=400, hidden_size=32, intermediate_size=64, layers=2, heads=2, kv_heads=1, head_dim=16)


def tokens(text: str) -> list[str]:
    return [TOKENIZER.decode([id_]) for id_ in TOKENIZER.encode(text)]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_a_tag_is_one_token_and_not_special() -> None:
    assert len(TOKENIZER) == 400
    for tag in TAGS:
        assert len(TOKENIZER.encode(tag)) == 1
    written = TOKENIZER.encode("<search> Oslo</search>")
    assert TOKENIZER.decode(written, skip_special_tokens=True) == "<search> Oslo</search>"
    assert TOKENIZER.eos_token_id != TOKENIZER.pad_token_id


def test_words_and_names_are_few_tokens_wherever_they_stand() -> None:
    assert tokens("<search> Barfin birthplace</search>")[-2:] == [" birthplace", "</search>"]
    alone = tokens(" Moritam")
    assert tokens("<answer> Moritam</answer>")[1:-1] == alone == tokens("who was Moritam")[-len(alone) :]


def test_names_split_into_syllables_that_any_other_name_may_have() -> None:
    assert tokens(" Vekrilbar") == [" Vek", "ril", "bar"]
    assert tokens(" Vekrilbar")[1:] == tokens(" Gosrilbar")[1:]
    whole = [entry for entry in TOKENIZER.get_vocab() if entry.removeprefix("Ġ").istitle() and len(entry) > 4]
    assert whole == []  # no token is longer than one syllable of a name


def test_words_in_lower_case_do_not_split_into_syllables() -> None:
    assert tokens("of birthplace")[-1] == " birthplace"


def test_no_token_has_more_than_two_digits() -> None:
    assert tokens("in 1843.")[1:2] == [" 18"]
    counts = {sum(map(str.isdigit, entry)) for entry in TOKENIZER.get_vocab()}
    assert counts == {0, 1, 2}


def test_training_is_a_function_of_the_texts() -> None:
    assert train_tokenizer(texts(0), 400).get_vocab() == TOKENIZER.get_vocab()
    assert train_tokenizer(texts(1), 400).get_vocab() != TOKENIZER.get_vocab()


def test_a_vocabulary_without_room_for_the_bytes_is_an_error() -> None:
    with pytest.raises(ValueError, match="vocab_size 200 is too small"):
        train_tokenizer(["a"], 200)


def test_the_chat_template_is_the_message_and_a_line_feed() -> None:
    made: Any = TOKENIZER.apply_chat_template([{"role": "user", "content": "Who?"}], tokenize=False)
    assert made == "Who?\n"


def test_a_seed_makes_the_weights_and_leaves_other_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    models = [new_model(CONFIG, TOKENIZER, seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    weights = [model.model.layers[1].mlp.up_proj.weight for model in models]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_the_default_model_has_about_a_million_parameters_and_its_files_load(tmp_path: Path) -> None:
    model = new_model(replace(TinyConfig(), vocab_size=400), TOKENIZER, 0)
    assert 0.5e6 < model.num_parameters() < 1.5e6
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    again, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = torch.tensor([tokenizer.encode("<search> Barfin birthplace</search>")])
    assert ids.tolist()[0] == TOKENIZER.encode("<search> Barfin birthplace</search>")
    assert again.dtype == torch.float32
    assert torch.equal(again(input_ids=ids).logits, model.eval()(input_ids=ids).logits)
    assert again.generation_config.eos_token_id == TOKENIZER.eos_token_id
