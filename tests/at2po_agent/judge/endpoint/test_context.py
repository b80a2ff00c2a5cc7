import pytest
from hypothesis import given
from hypothesis import strategies as st

from at2po_agent.judge.endpoint.context import OMIT, what_fits
from at2po_agent.judge.endpoint.refusals import ContextFull, read_refusal

COUNTED = {  # as {window}, {prompt}, {asked} and their {total}
    "OpenAI": "This model's maximum context length is {window} tokens. However, you requested {total} tokens "
    "({prompt} in "
    "the messages, {asked} in the completion). Please reduce the length of the messages or completion.",
    "OpenAI's older models": "This model's maximum context length is {window} tokens, however you requested "
    "{total} tokens "
    "({prompt} in your prompt; {asked} for the completion). Please reduce your prompt; or completion length.",
    "OpenRouter": "This endpoint's maximum context length is {window} tokens. However, you requested about "
    "{total} tokens "
    "({prompt} of text input, {asked} in the output).",
    "vLLM": "'max_tokens' or 'max_completion_tokens' is too large: {asked}. This model's maximum context length is "
    "{window} tokens and your request has {prompt} input tokens ({asked} > {window} - {prompt}).",
    "vLLM, later": "This model's maximum context length is {window} tokens. However, you requested {asked} "
    "output tokens "
    "and your prompt contains {prompt} input tokens, for a total of {total} tokens.",
    "SGLang": "Requested token count exceeds the model's maximum context length of {window} tokens. You "
    "requested a total "
    "of {total} tokens: {prompt} tokens from the input messages and {asked} tokens for the completion. Please "
    "reduce the "
    "number of tokens in the input messages or the completion to fit within the limit.",
    "a gateway": "litellm.ContextWindowExceededError: This model's maximum context length is {window} tokens. "
    "However, you "
    "requested {total} tokens ({prompt} in the messages, {asked} in the completion). Received Model Group=m",
    "llama.cpp": "request ({prompt} tokens) exceeds the available context size ({window} tokens), try increasing it",
}
NUMBERS = st.integers(1, 2_000_000)


@pytest.mark.fault("item 4: a prompt fits and prompt + max_tokens does not")
@pytest.mark.parametrize("name", COUNTED)
@given(window=NUMBERS, prompt=NUMBERS, asked=NUMBERS, commas=st.booleans())
def test_what_fits_is_what_the_prompt_leaves(name, window, prompt, asked, commas):
    numbers = {"window": window, "prompt": prompt, "asked": asked, "total": prompt + asked}
    said = COUNTED[name].format(**{key: f"{value:,}" if commas else value for key, value in numbers.items()})
    room = window - prompt - 1
    assert what_fits(said, asked) == (room if 1 <= room < asked else None)
    assert read_refusal(400, {"error": {"message": said, "param": "max_tokens"}}, {}).kind is ContextFull


@given(window=NUMBERS, messages=NUMBERS, functions=NUMBERS, asked=NUMBERS)
def test_functions_take_room_too(window, messages, functions, asked):
    total = messages + functions + asked
    said = (
        f"This model's maximum context length is {window} tokens. However, you requested {total} tokens "
        f"({messages} in the "
        f"messages, {functions} in the functions, and {asked} in the completion)."
    )
    room = window - messages - functions - 1
    assert what_fits(said, asked) == (room if 1 <= room < asked else None)


@given(window=st.integers(2, 2_000_000), data=st.data())
def test_a_prompt_that_was_not_counted_to_its_end_leaves_what_the_server_finds(window, data):
    asked = data.draw(st.integers(1, window - 1))
    said = (
        f"This model's maximum context length is {window} tokens. However, you requested {asked} output tokens "
        f"and your "
        f"prompt contains at least {window - asked + 1} input tokens, for a total of at least {window + 1} tokens."
    )
    assert what_fits(said, asked) == (OMIT if asked > 1 else None)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "prompt is too long",
        "This model's maximum context length is 8192 tokens.",
        "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        "This model's maximum context length is 8192 tokens. However, your request has 9000 input tokens.",
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        "your prompt contains 100000 characters (more than 81280 characters, the upper bound for 8128 input tokens)",
    ],
)
def test_nothing_fits_where_the_prompt_is_too_long_or_nobody_says_how_long_it_is(said):
    assert what_fits(said, 512) is None
