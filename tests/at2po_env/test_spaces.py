from __future__ import annotations

import copy

import pytest
from gymnasium.vector.utils import batch_space

from at2po_env.spaces import UnicodeText


@pytest.mark.parametrize("text", ["", "plain", "<search>é 大学 😀</search>", "a\x00b\n", "\ud800", "x" * 2_000_000])
def test_every_string_belongs(text):
    assert UnicodeText().contains(text)
    assert text in UnicodeText()


@pytest.mark.parametrize("thing", [b"bytes", None, 3, ["a"]])
def test_nothing_else_does(thing):
    assert not UnicodeText().contains(thing)


def test_length_limit():
    assert UnicodeText(3).contains("abc")
    assert not UnicodeText(3).contains("abcd")
    assert all(len(UnicodeText(2, seed=n).sample()) <= 2 for n in range(20))
    with pytest.raises(ValueError, match="max_length"):
        UnicodeText(-1)


def test_samples_follow_the_seed_vary_and_have_a_utf8_form():
    one, two = UnicodeText(seed=1), UnicodeText(seed=1)
    samples = [one.sample() for _ in range(50)]
    assert samples == [two.sample() for _ in range(50)]
    assert len(set(samples)) > 40
    assert any(not sample.isascii() for sample in samples)
    assert all(sample.encode() is not None and one.contains(sample) for sample in samples)
    with pytest.raises(ValueError, match="mask"):
        one.sample(mask=1)  # type: ignore[arg-type]


def test_json_form_is_the_texts_themselves():
    space = UnicodeText()
    assert space.from_jsonable(space.to_jsonable(["a", "\ud800"])) == ["a", "\ud800"]


def test_equality_and_repr():
    assert UnicodeText(3) == UnicodeText(3) != UnicodeText()
    assert UnicodeText() != "text"
    assert repr(UnicodeText(3)) == "UnicodeText(max_length=3)"


def test_a_batch_draws_independently_and_leaves_the_original_alone():
    space = UnicodeText(seed=5)
    untouched = copy.deepcopy(space)
    batch = batch_space(space, 3)
    assert batch.contains(("a", "b", "c")) and not batch.contains(("a", "b"))
    assert len(set(batch.sample())) == 3
    assert space.sample() == untouched.sample()
    assert batch_space(UnicodeText(seed=5), 3).sample() == batch_space(UnicodeText(seed=5), 3).sample()
