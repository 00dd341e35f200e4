"""The official client of OpenAI with the real engine and the real model, as its documentation uses it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, Field

from tests.engine.test_process import Process

pytestmark = pytest.mark.model

KEY = "a-key-of-twenty-four-letters"
QUESTION: Any = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current temperature for a location.",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string", "maxLength": 30}, "unit": {"enum": ["c", "f"]}},
            "required": ["location", "unit"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock", "description": "Get the time."}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Iterator[OpenAI]:
    folder = tmp_path_factory.mktemp("engine")
    (folder / "key").write_text(f"{KEY}\n")
    settings = {
        "socket": str(folder / "engine.sock"),
        "model": str(model_path),
        "model_name": "m",
        "context_size": 512,
        "parallel": 4,
        "embeddings": True,
        "api_key_file": str(folder / "key"),
    }
    (folder / "engine.json").write_text(json.dumps(settings))
    process = Process(folder / "engine.json", folder, program=("-m", "clawd_runtime.engine", "--port", "0"))
    try:
        deadline = time.monotonic() + 60
        while " loaded in " not in (log := process.log.read_text()):
            assert process.popen.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.05)
        found = re.search(r"listening on (http://\S+)", log)
        assert found is not None
        yield OpenAI(base_url=f"{found[1]}/v1", api_key=KEY, max_retries=0, timeout=100)
        assert process.popen.poll() is None
    finally:
        process.popen.kill()
        process.popen.wait()
    assert "Traceback" not in process.log.read_text()
    assert KEY not in process.log.read_text()


def ask(client: OpenAI, **fields: Any) -> ChatCompletion:
    given = {"model": "m", "messages": QUESTION, "temperature": 0, "max_completion_tokens": 40} | fields
    answer = client.chat.completions.create(**given)
    assert isinstance(answer, ChatCompletion)
    return answer


def text(client: OpenAI, **fields: Any) -> str:
    return ask(client, **fields).choices[0].message.content or ""


def test_chat_and_stream_give_the_same_answer(client):
    whole = text(client)
    assert "Paris" in whole
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *parts, last = client.chat.completions.create(
        model="m", messages=QUESTION, temperature=0, max_completion_tokens=40, **options
    )
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens


class Event(BaseModel):
    kind: Literal["party", "meeting"]
    year: int
    public: bool
    guests: Annotated[list[Literal["Ann", "Bo"]], Field(max_length=2)]


def test_structured_output_is_parsed(client):
    messages: Any = [{"role": "user", "content": "Ann and Bo have a party in 2027. Describe the event."}]
    answer = client.chat.completions.parse(
        model="m", messages=messages, response_format=Event, seed=1, max_completion_tokens=120
    )
    assert isinstance(answer.choices[0].message.parsed, Event)
    assert answer.choices[0].finish_reason == "stop"


def test_json_object_and_grammar(client):
    value = text(client, response_format={"type": "json_object"}, seed=3, max_completion_tokens=60)
    assert value.startswith("{")
    grammar = 'root ::= ("red" | "green") "!"'
    answers = [text(client, extra_body={"grammar": grammar}, temperature=1.5, seed=seed) for seed in range(4)]
    assert set(answers) <= {"red!", "green!"}


def test_errors_have_the_type_of_the_client(client):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, extra_body={"grammar": "root ::= ((("})
    assert caught.value.param == "grammar"
    schema = {"type": "array", "uniqueItems": True}
    with pytest.raises(openai.BadRequestError, match="uniqueItems: keyword not supported"):
        ask(client, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    with pytest.raises(openai.NotFoundError):
        ask(client, model="other")
    for key in ("wrong", KEY + "x", KEY[:-1]):
        with pytest.raises(openai.AuthenticationError):
            ask(client.with_options(api_key=key))


def test_required_and_named_tools_are_called(client):
    answer = ask(client, tools=[WEATHER, CLOCK], tool_choice="required", max_completion_tokens=80)
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name in ("get_weather", "clock")
    named = {"type": "function", "function": {"name": "get_weather"}}
    message = (
        ask(client, tools=[WEATHER, CLOCK], tool_choice=named, max_completion_tokens=80).choices[0].message
    )
    (call,) = message.tool_calls or []
    assert call.type == "function"
    assert set(json.loads(call.function.arguments)) == {"location", "unit"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "It is 14 degrees and sunny."}
    reply = text(client, messages=[*QUESTION, message, result], tools=[WEATHER])
    assert reply


def test_streamed_calls_are_put_together(client):
    with client.chat.completions.stream(
        model="m", messages=QUESTION, tools=[CLOCK], tool_choice="required", max_completion_tokens=60
    ) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("clock", "{}")
    assert final.choices[0].finish_reason == "tool_calls"


def test_logprobs_are_probabilities_before_sampling(client):
    answer = ask(client, logprobs=True, top_logprobs=5, max_completion_tokens=6)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    tokens = logprobs.content or []
    assert "".join(each.token for each in tokens) == answer.choices[0].message.content
    for each in tokens:
        assert len(each.top_logprobs) == 5
        assert each.logprob == each.top_logprobs[0].logprob, "the likeliest one was taken"
        assert max(top.logprob for top in each.top_logprobs) <= 0
    hot = ask(client, logprobs=True, max_completion_tokens=6, temperature=2, seed=5, logit_bias={"100": 5})
    assert hot.choices[0].logprobs is not None


def test_choices_differ_by_seed_and_repeat_with_it(client):
    def several() -> list[str | None]:
        answer = ask(client, n=3, seed=11, temperature=1.5, max_completion_tokens=12)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        return [choice.message.content for choice in answer.choices]

    first = several()
    assert len(set(first)) > 1
    single = text(client, seed=11, temperature=1.5, max_completion_tokens=12)
    assert single.split()[:1] == (first[0] or "").split()[:1]


def test_completions_and_their_logprobs(client):
    answer = client.completions.create(
        model="m", prompt=["The capital of France is", "One, two,"], max_tokens=4, temperature=0, logprobs=1
    )
    assert "Paris" in answer.choices[0].text
    assert len(answer.choices) == 2
    assert answer.choices[0].logprobs is not None
    assert "".join(answer.choices[0].logprobs.tokens or []) == answer.choices[0].text
    parts = client.completions.create(model="m", prompt="One, two,", max_tokens=4, temperature=0, stream=True)
    assert "".join(part.choices[0].text for part in parts) == answer.choices[1].text


def test_embeddings_are_near_for_near_texts(client):
    texts = ["A cat sits on the mat.", "A kitten lies on the rug.", "Shares fell sharply on Monday. " * 12]
    answer = client.embeddings.create(model="m", input=texts)
    as_floats = client.embeddings.create(model="m", input=texts, encoding_format="float")
    vectors = [each.embedding for each in answer.data]
    assert vectors == [each.embedding for each in as_floats.data]

    def product(one: int, other: int) -> float:
        return sum(a * b for a, b in zip(vectors[one], vectors[other], strict=True))

    assert all(abs(product(index, index) - 1) < 1e-5 for index in range(3))
    assert product(0, 1) > product(0, 2)
    assert answer.usage.prompt_tokens > 30
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="m", input="word " * 600)


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["m"]
    assert client.models.retrieve("m").id == "m"


def test_grammars_embeddings_and_failures_of_others_leave_an_answer_unchanged(client):
    """The greedy answer is that of a single request, while neighbours use grammars, fail, and embed."""
    alone = text(client)
    hostile = 'root ::= "a" root "b" | "a" root "c" | "a"'

    def neighbour(number: int) -> str:
        try:
            match number % 4:
                case 0:
                    return text(client, response_format={"type": "json_object"}, max_completion_tokens=24)
                case 1:
                    return text(client, extra_body={"grammar": hostile}, max_completion_tokens=40)
                case 2:
                    return str(client.embeddings.create(model="m", input="a text " * 50).usage)
            return text(client, tools=[CLOCK], tool_choice="required")
        except (openai.BadRequestError, openai.RateLimitError) as error:
            return str(error)

    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(neighbour, number) for number in range(6)]
        mine = [text(client) for _ in range(3)]
        assert [other.result() for other in others]
    assert mine == [alone] * 3
