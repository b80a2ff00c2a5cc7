import time
from email.utils import formatdate

import pytest

from at2po_agent.judge.endpoint.refusals import ContextFull, Filtered, Refusal, read_refusal


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": formatdate(time.time() + 3000, usegmt=True)}, 3000),
        ({"retry-after": formatdate(time.time() - 30, usegmt=True)}, 0),
        ({"retry-after": "soon"}, 0),
        ({}, 0),
    ],
)
def test_what_retry_after_asks_for(headers, seconds):
    found = read_refusal(429, {}, headers)
    assert found.again
    assert found.asked == pytest.approx(seconds, abs=0.1 * seconds)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "a\n b"}}, "a b"),
        ({"error": "plain"}, "plain"),
        ({"message": "vLLM and SGLang"}, "vLLM and SGLang"),
        ({"detail": "FastAPI"}, "FastAPI"),
        ("text", "text"),
        (None, ""),
        ([1], "[1]"),
        ("\x1b[2Jgone", "�[2Jgone"),  # it is printed on a terminal
    ],
)
def test_messages_are_found_where_endpoints_put_them(body, said):
    assert read_refusal(400, body, {}).said == said


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_statuses_that_may_pass(status):
    found = read_refusal(status, {}, {})
    assert found.again and not found.final


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405, 501])
def test_statuses_that_stop_everything(status):
    found = read_refusal(status, {}, {})
    assert found.final and not found.again


def test_an_ordinary_word_about_tokens_is_no_full_context():
    assert read_refusal(400, {"error": {"message": "max_tokens must be positive"}}, {}).kind is not ContextFull
    assert read_refusal(400, {"error": {"message": "prompt is too long"}}, {}).kind is ContextFull


@pytest.mark.parametrize(
    ("error", "field"),
    [
        ({"message": "no", "param": "seed"}, "seed"),
        ({"message": "Unrecognized request argument supplied: 'stop'"}, "stop"),
        ({"message": "Extra inputs are not permitted: `seed`"}, "seed"),
        ("Argument not supported on this model: stop", "stop"),  # xAI
        ("Model grok-4.6 does not support parameter stop.", "stop"),
        ({"message": "Unknown field: stop"}, "stop"),
        ({"message": "stop: Extra inputs are not permitted"}, "stop"),  # Anthropic
        ({"message": "stop is not supported with this model"}, "stop"),
        ({"message": "got an unexpected keyword argument 'stop'"}, "stop"),
        ({"message": "property 'seed' is unsupported"}, "seed"),  # Groq
        ({"message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'}, "seed"),  # Gemini
        ({"message": "Unsupported parameters: seed, stop"}, "stop"),
        ({"message": "The argument is not supported. We stop here."}, None),
        ({"message": "max_tokens is too large: 9. This model supports at most 8 completion tokens"}, None),
        ({"message": "non-stop use is not supported"}, None),
        ({"message": "unknown parameter: stop_token"}, None),
        ({"message": "'temperature' is not supported", "param": "temperature"}, None),  # it decides what is measured
        ({"message": "'stop' must not be empty"}, None),
    ],
)
def test_only_what_does_not_change_the_measurement_is_left_out(error, field):
    found = read_refusal(400, {"error": error}, {})
    assert (found.unsupported.field if found.unsupported else None) == field


@pytest.mark.fault("E: a content filter that refuses one question")
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "The response was filtered", "param": "prompt", "code": "content_filter"}),  # Azure
        (400, {"message": "", "code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}),
        (400, {"message": "rejected by our safety system", "code": "content_policy_violation"}),
        (400, {"message": "Invalid prompt: your prompt was flagged", "code": "invalid_prompt"}),
        (400, {"message": "considered high risk", "type": "content_filter"}),  # Moonshot
        (400, {"message": "may contain inappropriate content", "code": "data_inspection_failed"}),  # DashScope
        (400, {"message": "sensitive", "code": "1301"}),  # Zhipu
        (403, {"message": "flagged", "code": 403, "metadata": {"reasons": ["x"], "flagged_input": "y"}}),  # OpenRouter
        (500, {"message": "filtered", "code": "content_filter"}),
    ],
)
def test_a_filter_of_contents_refuses_one_conversation(status, error):
    found = read_refusal(status, {"error": error}, {})
    assert (found.kind, found.final, found.again) == (Filtered, False, False)


def test_other_codes_are_of_no_filter():
    for code in (None, 400, "invalid_request_error", "model_not_found", "unsupported_value"):
        assert read_refusal(400, {"error": {"message": "content filter", "code": code}}, {}).kind is Refusal


@pytest.mark.fault("G: a field of the request that has to be left out")
@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ({"message": "no", "param": "temperature", "code": "unsupported_value"}, "request.temperature=omit"),
        ({"message": "no", "param": "temperature", "code": "unsupported_value"}, "Try -T 1"),
        ("Argument not supported on this model: temperature", "request.temperature=omit"),
        ({"message": "`temperature` is not supported"}, "request.temperature=omit"),
        ({"message": "no", "param": "top_p", "code": "unsupported_parameter"}, "request.top_p=omit"),
        ({"message": "no", "param": "logprobs", "code": "unsupported_parameter"}, ""),
        ({"message": "temperature is odd"}, ""),
        ({"message": "unknown", "param": "messages.[0].role"}, ""),
        ({"message": "must be positive", "param": "top_k"}, ""),
    ],
)
def test_a_field_that_decides_what_is_measured_is_left_out_by_the_user(error, advice):
    found = read_refusal(400, {"error": error}, {})
    assert advice in found.advice and bool(advice) == bool(found.advice)
    assert found.unsupported is None
