"""Drift of re-encoded histories: hand-worked paths under an encoding with known merges, and real tokenizers."""

from __future__ import annotations

import math

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from at2po_agent.method.tree import ROOT, TurnNode, TurnTree
from at2po_agent.planning.retokenise import measure, quantile, reencode
from at2po_agent.policy.codec import Codec
from tests.helpers import real_tokenizers
from tests.helpers.random_trees import tiny

A, B, C, AB, CA, END = range(6)


@pytest.fixture
def codec() -> Codec:
    """Characters a, b and c; "ab" and "ca" are merged, in this order; the end token is spelled <end>."""
    bpe = models.BPE(vocab={"a": A, "b": B, "c": C, "ab": AB, "ca": CA}, merges=[("a", "b"), ("c", "a")])
    backend = Tokenizer(bpe)
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([AddedToken("<end>", special=True, normalized=False)])
    return Codec(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>"))


def path(prompt: tuple[int, ...], *turns: tuple[tuple[int, ...], tuple[int, ...]]) -> TurnTree:
    tree = TurnTree(prompt, question_id="q")
    for i, (action, observation) in enumerate(turns):
        logp = tuple(-0.1 * (token + 1) for token in action)
        tree.add(TurnNode(i, 0, i + 1, action, logp, observation, leaf=i == len(turns) - 1, reward=0.0))
    return tree


def ids_of(tree: TurnTree | None) -> list[tuple[int, ...]]:
    assert tree is not None
    return [
        tree[ROOT].observation,
        *(ids for node in tree.nodes[1:] for ids in (node.action, node.observation)),
    ]


def test_a_turn_is_encoded_anew_as_the_text_that_it_is(codec: Codec) -> None:
    sampled = path((C, C), ((A, B, C), (C,)), ((B, END), ()))
    assert ids_of(reencode(codec, sampled)) == [(C, C), (AB, C), (C,), (B, END), ()]


def test_tokens_merge_across_the_ends_of_segments_and_the_policys_turn_gets_them(codec: Codec) -> None:
    # "c" of the prompt and the turn's "a" become one token, and so do its "a" and the observation's "b"
    sampled = path((C,), ((A, C, A), (B, B)), ((C,), ()))
    assert ids_of(reencode(codec, sampled)) == [(), (CA, C, AB), (B,), (C,), ()]


def test_a_turn_without_text_cannot_be_compared(codec: Codec) -> None:
    sampled = path((C,), ((99,), ()))  # an id that the tokenizer does not have
    assert reencode(codec, sampled) is None
    assert measure(tiny(), codec, [sampled], 1.0) == []


def mean_logp(ids: tuple[int, ...], last: int, temperature: float) -> float:
    """Of the last tokens of ``ids``, by one plain forward."""
    log_p = (tiny()(torch.tensor([ids])).logits[0] / temperature).log_softmax(-1)
    rows = [float(log_p[t - 1, ids[t]].detach()) for t in range(len(ids) - last, len(ids))]
    return math.fsum(rows) / last


def test_drift_and_ratio_by_hand(codec: Codec) -> None:
    """Turn 1 sampled a, b, c and encodes to ab, c; turn 2 keeps its ids but stands after another history."""
    sampled = path((C, C), ((A, B, C), (C,)), ((B, END), ()))
    first, second = measure(tiny(), codec, [sampled], 0.7)
    assert (first.turn, first.tokens, first.changed, first.drifted, first.history_drifted) == (1, 3, 2, True, False)
    assert (second.turn, second.tokens, second.changed, second.drifted, second.history_drifted) == (
        2,
        2,
        0,
        False,
        True,
    )
    before = mean_logp((C, C, A, B, C), 3, 0.7), mean_logp((C, C, A, B, C, C, B, END), 2, 0.7)
    after = mean_logp((C, C, AB, C), 2, 0.7), mean_logp((C, C, AB, C, C, B, END), 2, 0.7)
    for drift, old, new in zip((first, second), before, after, strict=True):
        assert drift.log_ratio == pytest.approx(new - old, abs=1e-12) and abs(drift.log_ratio) > 1e-3
    assert first.engine_log_ratio == pytest.approx(before[0] + (0.1 + 0.2 + 0.3) / 3, abs=1e-12)


def test_what_encodes_to_itself_has_a_ratio_of_exactly_one(codec: Codec) -> None:
    sampled = path((C, C), ((AB, C), (C,)), ((B, END), ()))
    for drift in measure(tiny(), codec, [sampled] * 3, 1.0):
        assert drift.log_ratio == 0 and not drift.drifted and not drift.history_drifted and drift.changed == 0


@pytest.mark.parametrize("name", real_tokenizers.NAMES)
def test_real_tokenizers_spell_words_in_more_than_one_way(name: str) -> None:
    codec = Codec(real_tokenizers.load(name))
    canonical = real_tokenizers.scaffold(codec, "<search> the town of Brum</search>")
    letters = real_tokenizers.scaffold(codec, *"the town")
    prompt, observation = real_tokenizers.scaffold(codec, "Who?\n"), real_tokenizers.scaffold(codec, " found")
    same = path(prompt, (canonical, observation), (canonical, ()))
    assert ids_of(reencode(codec, same)) == ids_of(same)
    assert ids_of(reencode(codec, path(prompt, (letters, ()))))[1] != letters


def test_quantiles_are_values_that_occur() -> None:
    assert [quantile([3.0, 1.0, 2.0, 4.0], share) for share in (0.5, 0.75, 0.95, 1.0)] == [2.0, 3.0, 4.0, 4.0]
    assert math.isnan(quantile([], 0.5))
