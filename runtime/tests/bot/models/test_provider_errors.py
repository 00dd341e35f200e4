"""Classification of providers' errors, in forms that real providers have sent."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.models.provider_errors import ProviderError, error_of, read_error

SENT = ("max_tokens", "temperature", "stream_options", "stream")


def raw(value: object) -> dict[str, object]:
    metadata = {"raw": json.dumps(value), "provider_name": "X"}
    return {"error": {"message": "Provider returned error", "code": 400, "metadata": metadata}}


@pytest.mark.parametrize(
    "said",
    [
        "Your request exceeded model token limit: 8192",
        {
            "code": "InvalidParameter",
            "message": "Range of input length should be [1, 6000]",
            "request_id": "r",
        },
        {"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}},
        {"error": {"message": "This model's maximum context length is 4096 tokens.", "type": "x"}},
        raw({"error": {"message": "Input tokens exceed the limit: maximum context length is 8192"}}),
        raw({"message": "input is too long for requested model"}),
        {"detail": [{"loc": ["body", "messages"], "msg": "prompt too long", "input": "x"}]},
        [{"error": {"code": 400, "message": "The input token count exceeds the maximum number of tokens"}}],
        {"error": {"type": "exceed_context_size_error", "n_ctx": 512}},
        {"error": json.dumps({"error": {"code": "context_length_exceeded"}})},
        "<html><h1>413 Request Entity Too Large</h1></html>",
        {"error": {"message": "Request too large for model `x` on tokens per minute (TPM): Limit 6000"}},
        {"error_msg": "the max input tokens is 2000"},
        {"msg": "输入内容过长，超出模型限制"},
        {"error": {"message": "Please reduce the length of the messages"}},
        {"code": 20015, "message": "length of prompt_tokens (40000) must be less than max_seq_len (32768)."},
        {"message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"},
        {"error": {"code": "1261", "message": "Prompt 超长"}},
        {"error_code": 336007, "error_msg": "the max input characters is 20000"},
        {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"},
        {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"},
        {"error": {"message": "This model's maximum prompt length is 131072 but the request contains 5"}},
        {"message": "The input (5000 tokens) is longer than the model's context length (4096 tokens)."},
        {"base_resp": {"status_msg": "invalid params, context window exceeds limit (2013)"}},
    ],
)
def test_error_about_length_is_recognised(said: object) -> None:
    body = said if isinstance(said, str) else json.dumps(said)
    assert read_error(400, body.encode()).about_length


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": "unknown field", "code": 400}},
        {"error": {"message": "Rate limit reached: 10000 tokens per minute"}},
        {
            "error": {
                "message": "max_tokens is too large: 8192. This model supports at most 4096 completion tokens"
            }
        },
        {"message": "Range of max_tokens should be [1, 2048]"},
        {"detail": [{"loc": ["body", "top_k"], "msg": "Input should be less than or equal to 1"}]},
    ],
)
def test_other_errors_are_not_about_length(said: object) -> None:
    assert not read_error(400, json.dumps(said).encode()).about_length


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": "Content Exists Risk", "type": "invalid_request_error", "code": "x"}},
        {"code": "data_inspection_failed", "message": "Output data may contain inappropriate content."},
        {"error": {"message": "<400> InternalError.Algo.DataInspectionFailed: refused", "code": "x"}},
        {"error": {"type": "content_filter", "message": "considered high risk"}},
        {"error": {"message": "The request was rejected because it was considered high risk"}},
        {"error": {"code": "SensitiveContentDetected.Text", "message": "no"}},
        {"error": {"code": "InputTextSensitiveContentDetected", "message": "no"}},
        {"error": {"code": "1301", "message": "x"}},
        {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}},
        {"error": {"message": "sensitive"}},
        {"error": {"message": "The input may contain sensitive words."}},
        {"error": {"message": "Your prompt is potentially sensitive"}},
        {"code": "text_sensitive", "message": "no"},
        {"error": {"message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}},
        {"error_msg": "输入内容审核不通过，涉嫌违规"},
        {"error": {"message": "Your request was rejected as a result of our safety system."}},
        {"error": {"message": "Your input was flagged", "code": 403}},
    ],
)
def test_content_filter_error_is_recognised(said: object) -> None:
    assert read_error(400, json.dumps(said, ensure_ascii=False).encode()).about_content


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": "parameter names are case-sensitive", "code": "invalid"}},
        {"error": {"message": "model names are case sensitive"}},
        {"error": {"message": "content must be a string", "param": "messages.[0].content"}},
        {"error": {"message": "there is a risk of overload"}},
        {"error": {"message": "This field is time-sensitive"}},
        {"error": {"message": "Sensitive to load: retry"}},
        {"error": {"message": "The request is sensitive to clock differences"}},
        {"error": {"message": "illegal text encoding"}},
        {"error": {"message": "illegal content type"}},
        {"error": {"message": "API key lacks permission for sensitive models"}},
        {"error": {"message": "no", "reason": "this field is time-sensitive"}},
        {"error": {"message": "参数名大小写敏感"}},
    ],
)
def test_other_errors_are_not_content_filter(said: object) -> None:
    assert not read_error(400, json.dumps(said).encode()).about_content


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"error": {"param": "max_tokens", "message": "no"}}, ("max_tokens",)),
        ({"error": {"param": "temperature", "message": "no"}}, ("temperature",)),
        ({"detail": [{"loc": ["body", "stream"], "msg": "no"}]}, ("stream",)),
        ({"detail": {"field": "temperature"}}, ("temperature",)),
        (raw({"error": {"message": "Unsupported parameter: 'max_tokens'"}}), ("max_tokens",)),
        ("'temperature' is not supported", ("temperature",)),
        ("temperature must be 1", ("temperature",)),
        ("Invalid value for temperature", ("temperature",)),
        ("unknown argument `stream`", ("stream",)),
        ("Your organization must be verified for streaming: streaming is not enabled", ("stream",)),
        ("invalid temperature: only 1 is allowed for this model", ("temperature",)),
        ("Only temperature=1 is supported", ("temperature",)),
        ("the answer cannot be made in a stream of words at this temperature", ()),
        ({"detail": [{"loc": ["body", "top_k"], "msg": "no", "input": {"temperature": 1}}]}, ()),
        ({"error": {"param": "messages.[0].content", "message": "empty"}}, ()),
        ({"error": {"param": None, "message": None}}, ()),
        # Next to Chinese words.
        ("max_tokens参数非法。请检查文档。", ("max_tokens",)),
        ("不支持参数max_tokens，请使用max_completion_tokens", ("max_tokens",)),
        ("max_tokens必须小于4096", ("max_tokens",)),
        ("temperature参数非法", ("temperature",)),
        ("参数 temperature 不合法", ("temperature",)),
        ("参数：temperature", ("temperature",)),
        ("不支持temperature", ("temperature",)),
        ("temperature的取值范围是[0, 1]", ("temperature",)),
        ("该模型的temperature只能为1", ("temperature",)),
        ("「temperature」无效", ("temperature",)),
        ("暂不支持stream模式", ("stream",)),
        ("stream_options参数不支持", ("stream_options",)),
        ("服务器temperature过热", ()),
        # In other sentences.
        ("This model does not support the temperature parameter", ("temperature",)),
        ("thinking mode does not support temperature", ("temperature",)),
        ("thinking mode does not accept custom temperature", ("temperature",)),
        ("Extra inputs are not permitted: temperature", ("temperature",)),
        ("Extra inputs are not permitted, stream", ("stream",)),
        ("The stream option is unavailable", ("stream",)),
        ("temperature: Input should be 1", ("temperature",)),
        ("the mean_temperature parameter is not supported", ()),
        ("Streaming is not supported for this model", ("stream",)),
        ("This model does not support streaming", ("stream",)),
        ("该模型不支持streaming", ("stream",)),
        ("Streaming connection interrupted, please retry", ()),
        ("Streaming response could not be completed", ()),
        ("Stream interrupted, please retry", ()),
        # As keys and paths.
        ({"errors": {"temperature": ["is not permitted"]}}, ("temperature",)),
        ({"detail": {"max_tokens": "not permitted"}}, ("max_tokens",)),
        ({"message": {"temperature": {"code": "x"}}}, ("temperature",)),
        ({"errors": {"json": {"temperature": ["Unknown field."]}}}, ("temperature",)),
        ({"errors": [{"source": {"pointer": "/temperature"}, "title": "no"}]}, ("temperature",)),
        ({"errors": [{"path": ["temperature"], "message": "no"}]}, ("temperature",)),
        ({"detail": [{"loc": ["body", "temperature"], "msg": "Extra inputs"}]}, ("temperature",)),
        ({"error": {"temperature": 0.3, "max_tokens": 64, "message": "no"}}, ()),
        ({"error": "no", "path": "/v1/chat/completions"}, ()),
    ],
)
def test_named_parameters_are_found(said: object, named: tuple[str, ...]) -> None:
    body = said if isinstance(said, str) else json.dumps(said)
    assert read_error(400, body.encode()).parameters(SENT) == named


def test_error_code_in_log_is_plain() -> None:
    assert error_of(400, {"error": {"code": "bad_key\nforged", "type": "bad_request"}}).code == "bad_request"
    assert error_of(400, {"error": {"code": "x" * 100}}).code is None


@pytest.mark.parametrize(
    "text", ["system ", "not support ", "`", "max input ", "value for ", "messages ", "a_b "]
)
def test_long_error_is_read_quickly(text: str) -> None:
    begun = time.process_time()
    error = error_of(200, [text * 1000] * 300)
    assert not any((error.about_length, error.about_content, error.about_system_role))
    assert error.parameters(SENT) == ()
    assert time.process_time() - begun < 0.5


def test_reason_at_the_end_of_a_long_error_is_read() -> None:
    echo = "word " * 5000
    assert read_error(400, f"cannot answer {echo}: the prompt is too long".encode()).about_length


@pytest.mark.parametrize("text", ["prompt", "prompt_", "prompt ", "input tokens ", "提示", "提示词"])
def test_echo_of_a_hostile_question_is_classified_quickly(text: str) -> None:
    body = json.dumps({"errors": [{"message": text * 682}] * 16})
    begun = time.process_time()
    assert not read_error(400, body.encode()).about_length
    assert time.process_time() - begun < 0.5


def test_error_within_answer_has_its_own_status() -> None:
    assert error_of(200, {"code": 429, "message": "slow"}).status == 429
    assert error_of(200, {"code": "503"}).status == 503
    assert error_of(200, {"code": 10**400, "message": "slow"}).status == 200
    assert error_of(401, {"code": 400}).status == 401


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000_000,
        b'{"error":' * 1_000_000,
        b"{" + b'"a": "context", ' * 1_000_000,
        b"9" * 10_000_000,
        b"<html>" * 1_000_000,
        json.dumps(raw(json.dumps(raw("{" * 60_000)))).encode(),
        json.dumps({str(n): [[[{"x": "y" * 100}]]] for n in range(500)}).encode(),
        b"\xff\xfe\x00",
        b"",
    ],
)
def test_any_error_body_is_read_in_bounded_time(body: bytes) -> None:
    begun = time.process_time()
    error = read_error(400, body)
    error.parameters(SENT)
    assert not error.about_content
    assert time.process_time() - begun < 0.5


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["code", "loc"]), inner),
        max_leaves=40,
    )
)
def test_any_json_is_read_as_error(value: object) -> None:
    error = error_of(400, value)
    assert isinstance(error, ProviderError)
    assert set(error.parameters(SENT)) <= set(SENT)
    assert isinstance(error.about_length or error.about_content or error.about_system_role, bool)


@given(st.binary())
def test_any_bytes_are_read_as_error(body: bytes) -> None:
    assert read_error(400, body).status == 400
