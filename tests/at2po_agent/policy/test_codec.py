"""Untrusted text stays text on three real tokenizers, and what was sampled is decoded as it was sampled."""

from __future__ import annotations

import functools
import pickle
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from at2po_agent.policy.codec import Codec, EncodingError
from at2po_env.chat import messages
from at2po_env.dialects import NATIVE
from at2po_env.state import Action, Question, Segment, ToolMessage, UserMessage
from tests.helpers import real_tokenizers
from tests.helpers.env_doubles import make_env

TAGS = [f"<{slash}{tag}>" for tag in ("think", "search", "answer", "result") for slash in ("", "/")]


@pytest.fixture(scope="module", params=real_tokenizers.NAMES)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return real_tokenizers.load(request.param)


@functools.cache
def codec_of(tokenizer: Any) -> Codec:
    return Codec(tokenizer)


@functools.cache
def spells(tokenizer: Any, character: str) -> bool:
    """Whether the vocabulary has tokens for a character: SmolLM2's lacks some bytes."""
    backend = tokenizer.backend_tokenizer
    return stored(tokenizer, character) == backend.decode(backend.encode(stored(tokenizer, character)).ids)


def added(tokenizer: Any) -> dict[str, int]:
    return {token.content: i for i, token in tokenizer.added_tokens_decoder.items()}


def hostile(tokenizer: Any) -> st.SearchStrategy[str]:
    """Pieces of every added token, tag, bidirectional and control character, lone surrogates and any text."""
    odd = ["\u202e", "\u2066", "\u2069", "\u200b", "\x00", "\x1b[2J", "\ud800", "\udfff", "\ufeff", "A\u030a"]
    pieces = st.sampled_from([*added(tokenizer), *TAGS, *odd, "<", ">", "|", " ", "\n", "{{", "DATA0DATA"])
    text = st.text(st.characters().filter(lambda character: spells(tokenizer, character)), max_size=6)
    return st.lists(pieces | text, max_size=8).map("".join)


def stored(tokenizer: Any, text: str) -> str:
    """What a tokenizer can keep of a text: no lone surrogates, and normalised as it normalises."""
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    normalizer = tokenizer.backend_tokenizer.normalizer
    return text if normalizer is None else normalizer.normalize_str(text)


def test_data_never_becomes_a_control_token_and_is_kept(tokenizer: Any) -> None:
    codec, control = codec_of(tokenizer), set(added(tokenizer).values())

    @settings(max_examples=150, deadline=None)
    @given(hostile(tokenizer))
    def check(text: str) -> None:
        ids = codec.observation((Segment(text, True),))
        assert control.isdisjoint(ids)
        assert codec.decode_action(ids) == stored(tokenizer, text)

    check()


def test_every_added_token_is_one_id_in_scaffold_and_text_in_data(tokenizer: Any) -> None:
    codec = codec_of(tokenizer)
    for content, token in added(tokenizer).items():
        assert codec.observation((Segment(content, False),)) == (token,)
        assert token not in codec.observation((Segment(content, True),))
        if token not in codec.eos_ids:
            assert codec.decode_action((token,)) == content


def test_prompt_scaffold_is_constant_whatever_the_data(tokenizer: Any) -> None:
    codec = codec_of(tokenizer)

    def prompt(data: str) -> tuple[int, ...]:
        return codec.prompt((Segment("Answer with tags.\n", False), Segment(data, True), Segment("\nGo:", False)))

    empty, plain, data = prompt(""), prompt("Who?"), codec.observation((Segment("Who?", True),))
    (place,) = [i for i in range(len(empty) + 1) if (*empty[:i], *data, *empty[i:]) == plain]

    @settings(max_examples=50, deadline=None)
    @given(hostile(tokenizer))
    def check(text: str) -> None:
        data = codec.observation((Segment(text, True),))
        assert prompt(text) == (*empty[:place], *data, *empty[place:])

    check()


def test_prompt_is_the_chat_template_s_own_where_the_text_is_harmless(tokenizer: Any) -> None:
    codec = codec_of(tokenizer)
    ids = codec.prompt((Segment("Answer this.\n", False), Segment("Who founded it?", True)))
    if tokenizer.chat_template is None:
        assert codec.decode_action(ids) == "Answer this.\nWho founded it?\n"
    else:
        expected = tokenizer.apply_chat_template(
            [{"role": "user", "content": "Answer this.\nWho founded it?"}], tokenize=False, add_generation_prompt=True
        )
        assert codec.decode_action(ids) == expected
        control = set(added(tokenizer).values())
        usual = tokenizer.backend_tokenizer.encode(expected, add_special_tokens=False).ids
        assert [i for i in ids if i in control] == [i for i in usual if i in control]


def test_result_closes_exactly_once(tokenizer: Any) -> None:
    codec = codec_of(tokenizer)

    @settings(max_examples=100, deadline=None)
    @given(hostile(tokenizer))
    def check(text: str) -> None:
        shown = re.sub(r"<(?![\s\d=])", "‹", text)  # what the environment does to every passage
        observation = (Segment("\n<result>\n(1) ", False), Segment(shown, True), Segment("\n</result>\n", False))
        ids = codec.observation(observation)
        assert codec.decode_action(ids).count("</result>") == 1
        closing = codec.observation((observation[-1],))
        assert ids[-len(closing) :] == closing

    check()


def test_action_keeps_every_token_but_the_final_end(tokenizer: Any) -> None:
    codec = codec_of(tokenizer)
    eos = min(codec.eos_ids)
    text = "<think>a  b , c</think><search> Ünï </search>"
    ids = codec.observation((Segment(text, False),))
    assert codec.decode_action(ids) == text  # no clean-up of spaces, no tag lost
    assert codec.decode_action((*ids, eos)) == text
    assert codec.decode_action((*ids, eos, eos)) == text + tokenizer.convert_ids_to_tokens(eos)
    assert codec.decode_action(()) == ""


def test_broken_bytes_and_unknown_ids_decode_to_something(tokenizer: Any) -> None:
    codec = codec_of(tokenizer)
    half = codec.observation((Segment("\U0001f9ff", True),))[:1]
    assert codec.decode_action(half) in ("\ufffd", "\U0001f9ff")
    assert codec.decode_action((codec.vocab_size + 10,)) == ""


def test_token_texts_are_what_tokens_decode_to(tokenizer: Any) -> None:
    codec = codec_of(tokenizer)
    texts = codec.token_texts()
    assert len(texts) == codec.vocab_size
    for content, token in added(tokenizer).items():
        assert texts[token] == content


def test_digest_names_the_tokenizer() -> None:
    first, again = Codec(real_tokenizers.byte_bpe()), Codec(real_tokenizers.byte_bpe())
    other = real_tokenizers.byte_bpe()
    other.add_tokens(["<more>"])
    assert first.digest == again.digest
    assert len({first.digest, Codec(other).digest, Codec(real_tokenizers.byte_bpe(), eos_ids=(3,)).digest}) == 3


def test_vocabulary_that_spells_an_added_token_is_no_way_in() -> None:
    """WordLevel finds ``<end>`` in its plain vocabulary too; characters that are control tokens vanish."""
    words = {"<unk>": 0, "<end>": 1, "a": 2, "<": 3, "e": 4, "n": 5, "d": 6, ">": 7, "!": 8}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", unk_token="<unk>")
    tokenizer.add_tokens(["!"], special_tokens=True)
    codec = Codec(tokenizer)
    assert codec.observation((Segment("a <end>", False),)) == (2, 1)
    assert codec.observation((Segment("a <end>", True),)) == (2, 3, 4, 5, 6, 7)
    assert codec.observation((Segment("a !", True),)) == (2,)
    assert codec.observation((Segment("zebra", True),)) == (0,)


def test_raw_prompt_starts_as_the_tokenizer_starts_texts() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = real_tokenizers.byte_bpe()
    tokenizer.add_special_tokens({"bos_token": "<|start|>"})
    start = tokenizer.bos_token_id
    assert Codec(tokenizer).prompt((Segment("the", False),))[0] != start
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|start|> $A", special_tokens=[("<|start|>", start)]
    )
    codec = Codec(tokenizer)
    assert codec.prompt((Segment("the", False),))[0] == start
    assert start not in codec.observation((Segment("the", False),))


@pytest.mark.parametrize("template", ["{{ 'Hi' }}", "{% for m in messages %}{{ m.content + m.content }}{% endfor %}"])
def test_template_that_loses_or_repeats_text_is_refused(template: str) -> None:
    tokenizer = real_tokenizers.byte_bpe()
    tokenizer.chat_template = template
    with pytest.raises(EncodingError, match="chat template"):
        Codec(tokenizer).prompt((Segment("q", True),))


def test_from_dir_reads_the_model_s_own_ends(tmp_path: Path) -> None:
    with pytest.raises(EncodingError, match=r"no tokenizer in .*tokenizer\.json"):
        Codec.from_dir(tmp_path)
    real_tokenizers.byte_bpe().save_pretrained(tmp_path)
    alone = Codec.from_dir(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 7]}')
    assert Codec.from_dir(tmp_path).eos_ids == alone.eos_ids | {5, 7}


def test_tokenizer_without_an_end_is_refused() -> None:
    with pytest.raises(EncodingError, match="end-of-sequence"):
        Codec(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE())))


def test_normalised_text_is_the_only_difference_on_qwen3() -> None:
    codec = codec_of(real_tokenizers.load("qwen3"))
    text = "e\u0301 <think>"
    assert codec.decode_action(codec.observation((Segment(text, True),))) == unicodedata.normalize("NFC", text)


def test_a_user_message_closes_the_turn_and_opens_the_next(tokenizer: Any) -> None:
    """What is appended after a turn is what the template puts there, and data in it stays data."""
    codec, said = codec_of(tokenizer), "<result>\nA town ‹|im_end|> here.\n</result>"
    message = UserMessage((Segment("<result>\n", False), Segment("A town ‹|im_end|> here.", True)))
    message = UserMessage((*message, Segment("\n</result>", False)))
    if tokenizer.chat_template is None:
        with pytest.raises(EncodingError, match="chat template"):
            codec.observation(message)
        return
    turn = "I look it up. <search>town</search>"
    whole = tokenizer.apply_chat_template(
        [
            {"role": "user", "content": "Who?"},
            {"role": "assistant", "content": turn},
            {"role": "user", "content": said},
        ],
        tokenize=False,
        add_generation_prompt=True,
    )
    prompt = codec.prompt((Segment("Who?", True),))
    ids = codec.observation(message)
    shown = codec.decode_action((*prompt, *codec.observation((Segment(turn, False),)), *ids))
    assert shown == whole
    hostile_message = UserMessage((Segment("".join(added(tokenizer)), True),))
    control = set(added(tokenizer).values())
    expected = [i for i in codec.observation(UserMessage((Segment("x", True),))) if i in control]
    assert [i for i in codec.observation(hostile_message) if i in control] == expected


def test_an_inline_observation_has_nothing_of_the_template(tokenizer: Any) -> None:
    codec, segments = codec_of(tokenizer), (Segment("<result>", False), Segment(" A town.", True))
    assert codec.decode_action(codec.observation(segments)) == "<result> A town."


def native_episode(codec: Codec) -> tuple[list[dict[str, Any]], str]:
    """A whole episode: its messages, and the text of the ids that a policy saw and wrote."""
    env = make_env(dialect="native", k=2)
    env.reset(options={"question_id": "q1"})
    ids = codec.prompt(env.observation())
    for action in (Action("search", "Tower A"), Action("search", "nothing at all"), Action("answer", "Paris")):
        written = codec.observation((Segment(("So. " if env.state.depth else "") + env.dialect.write(action), False),))
        ids += written
        env.step(codec.decode_action(written))
        ids += codec.observation(env.observation())
    assert (env.state.ended, env.state.searches) == ("answer", 2)
    return messages(env.dialect, env.state), codec.decode_action(ids)


def test_native_tool_calls_are_the_template_s_own_over_a_whole_episode() -> None:
    tokenizer = real_tokenizers.load("qwen3")
    said, text = native_episode(Codec(tokenizer))
    said[3]["content"] = "So. "  # our text puts the call behind what was said; the template, on a line of its own
    expected = tokenizer.apply_chat_template(said, tools=list(NATIVE.tools), tokenize=False)
    assert text + "<|im_end|>\n" == expected.replace("So. \n<tool_call>", "So. <tool_call>").replace(
        "<think>\n\n</think>\n\n",
        "",  # the template thinks for a last message without thoughts
    )
    assert text.count('"description": "Searches a collection') == 1
    assert text.count("<tool_response>\n(1) Tower A: Tower A stands in Paris.") == 1


def test_data_in_a_tool_s_answer_stays_data() -> None:
    codec, control = Codec(real_tokenizers.load("qwen3")), set(added(real_tokenizers.load("qwen3")).values())
    hostile_message = ToolMessage((Segment("(1) ", False), Segment("".join(added(codec.tokenizer)), True)))
    harmless = ToolMessage((Segment("(1) ", False), Segment("x", True)))
    expected = [i for i in codec.observation(harmless) if i in control]
    assert [i for i in codec.observation(hostile_message) if i in control] == expected
    assert codec.decode_action(codec.observation(harmless)) == (
        "<|im_end|>\n<|im_start|>user\n<tool_response>\n(1) x\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("name", ["smollm2", "ours"])
def test_a_template_without_tools_is_refused(name: str) -> None:
    codec = Codec(real_tokenizers.load(name))
    if codec.tokenizer.chat_template is None:
        pytest.skip("the built-in policy's tokenizer is not here")
    with pytest.raises(EncodingError, match="has no tools: use another dialect, such as tags or chat"):
        codec.prompt(NATIVE.prompt("Who?"))


def test_a_template_that_calls_tools_in_another_form_or_refuses_is_named() -> None:
    tokenizer = real_tokenizers.byte_bpe()
    with pytest.raises(EncodingError, match="need a tokenizer with a chat template"):
        Codec(tokenizer).prompt(NATIVE.prompt("Who?"))
    tokenizer.chat_template = "{{ tools | tojson }}{% for m in messages %}[CALL]{{ m.tool_calls }}{% endfor %}"
    with pytest.raises(EncodingError, match="writes tool calls in another form"):
        Codec(tokenizer).prompt(NATIVE.prompt("Who?"))
    tokenizer.chat_template = "{{ raise_exception('no tools, please') }}"
    with pytest.raises(EncodingError, match="refuses this conversation: no tools, please"):
        Codec(tokenizer).observation(ToolMessage((Segment("x", True),)))


def thinking_codec() -> Codec:
    """A tokenizer whose template opens the thought of the model's turn, as DeepSeek-R1's does."""
    tokenizer = real_tokenizers.byte_bpe()
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]<think>\n{% endif %}"
    )
    return Codec(tokenizer)


def test_a_pickled_codec_is_the_same_one() -> None:
    codec, data = thinking_codec(), (Segment("Who? <think>\n", True),)
    ids = codec.prompt(data)
    other = pickle.loads(pickle.dumps(codec))
    assert (other.digest, other.eos_ids, other.prompt(data)) == (codec.digest, codec.eos_ids, ids)
    with_more = Codec(real_tokenizers.byte_bpe(), eos_ids=(3,))
    assert pickle.loads(pickle.dumps(with_more)).digest == with_more.digest


@pytest.mark.fault("C: a thought that the chat template opened, in training")
def test_a_template_that_opens_the_thought_says_so_of_prompts_and_messages_and_never_of_data() -> None:
    codec, data = thinking_codec(), (Segment("Who? <think>\n", True),)
    assert codec.opened_thought(codec.prompt(data)) == "<think>\n"
    assert codec.opened_thought(codec.observation(UserMessage(data))) == "<think>\n"
    assert codec.opened_thought(codec.observation((Segment("<result>x</result>", False),))) == ""
    assert codec.opened_thought(()) == ""
    plain = Codec(real_tokenizers.byte_bpe())
    env = make_env(questions=[Question("q", "Who? <think>\n", ("x",))], dialect="bare")
    env.reset(options={"question_id": "q"})
    assert plain.opened_thought(plain.prompt(env.observation())) == ""
