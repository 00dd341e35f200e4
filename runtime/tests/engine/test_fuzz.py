"""Thousands of requests, most of them invalid, to an engine as it runs on a host: no 5xx and no exit.

`CLAWD_FUZZ_SEED` repeats a run, `CLAWD_FUZZ_REQUESTS` makes it shorter or longer.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.engine.test_process import Process, chat

REQUESTS = int(os.environ.get("CLAWD_FUZZ_REQUESTS", "5000"))
CALLERS = 8
# 499: the engine's status for a client that has disconnected.
EXPECTED = {200, 400, 404, 405, 413, 415, 429, 499}

TEXTS = [
    "", " ", "hello", "漢字 🙂", "\x00", "\ud800", "\ufdd0", "<|im_end|>\n<|im_start|>system\nx", "[INST]",
    "a" * 3000, "<think>x</think>", "\u202e\u200b", "{{ 7 * 7 }}", "%s%n", "0" * 500, "\n" * 300, "é" * 200,
]  # fmt: skip
NUMBERS = [
    0, 1, -1, 2, 0.5, -0.0, 1e-320, 1e308, -1e308, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**40, 10**400,
    float("nan"), float("inf"),
]  # fmt: skip
SAMPLING: dict[str, list[Any]] = {
    "temperature": [0, 1e-9, 1e-4, 0.7, 1.3, 2],
    "top_p": [1e-9, 0.5, 0.95, 1],
    "top_k": [0, 1, 5, 10**6, 2**31 - 1],
    "min_p": [0, 1e-9, 0.05, 1],
    "typical_p": [1e-9, 0.5, 1],
    "repeat_penalty": [1e-9, 0.5, 1, 1.3, 10],
    "repetition_penalty": [1.1],
    "frequency_penalty": [-2, -0.5, 0, 1e-300, 2],
    "presence_penalty": [-2, 0, 0.3, 2],
    "seed": [0, 1, -1, 2**31, 2**32 - 1, 2**63, -(2**63), 2**64 - 1],
    "max_tokens": [1, 2, 3, 5],
    "max_completion_tokens": [3],
    "logit_bias": [{}, {"5": 100, "6": -100}, {"0": 1e-300}, {str(token): -100 for token in range(1000)}],
    "stop": ["a", ["e", " "], "\n", [], ["the", "The", "é", "🙂"]],
    "stream": [True, False, None],
    "n": [1, 2],
    "user": ["u"],
    "logprobs": [True, False],
    "response_format": [{"type": "text"}, {"type": "json_object"}],
}
FIELDS = [
    *SAMPLING, "model", "messages", "stream_options", "tools", "tool_choice", "logprobs", "metadata",
    "functions", "reasoning_effort", "chat_template_kwargs", "modalities", "grammar",
    "tempreture", "store", "", "top_logprobs", "parallel_tool_calls",
]  # fmt: skip


class Fuzzer:
    """A generator of requests from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, depth: int = 0) -> Any:
        kind = self.random.randrange(8 if depth < 4 else 5)
        if kind == 5:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        if kind in (6, 7):
            keys = ["role", "content", "type", "text", "image_url", "name", "tool_calls", *TEXTS[:4]]
            return {self.random.choice(keys): self.value(depth + 1) for _ in range(self.random.randrange(4))}
        return self.random.choice(([None, True, False], NUMBERS, TEXTS, NUMBERS, TEXTS)[kind])

    def message(self) -> Any:
        role = self.random.choice(["user"] * 5 + ["assistant", "system", "developer", "tool", 5])
        text = self.random.choice(TEXTS)
        parts = [{"type": "text", "text": text}] * self.random.randrange(4)
        message = {"role": role, "content": self.random.choice([text, text, text, parts])}
        if self.random.random() < 0.1:
            message[self.random.choice(["reasoning_content", "name", "tool_calls", "refusal"])] = self.value()
        return message

    def valid(self) -> dict[str, Any]:
        question = self.random.choice(
            ["Hello!", "What is 2 + 2?", "Tell me a story.", "Count: one two three"]
        )
        request = chat(question, max_tokens=2)
        for name in self.random.sample(sorted(SAMPLING), self.random.randrange(6)):
            request[name] = self.random.choice(SAMPLING[name])
        for name, same in (("max_completion_tokens", "max_tokens"), ("repetition_penalty", "repeat_penalty")):
            if name in request:
                request.pop(same, None)
        if request.get("stream"):
            request["stream_options"] = {"include_usage": self.random.random() < 0.5}
        return request

    def mutated(self) -> dict[str, Any]:
        request = self.valid()
        for _ in range(self.random.randrange(1, 3)):
            kind = self.random.randrange(4)
            if kind == 0:
                request["messages"] = [self.message() for _ in range(self.random.randrange(6))]
            elif kind == 1:
                # Not the limit: an answer as long as the context takes as long as a hundred others.
                request.pop(self.random.choice(sorted(set(request) - {"max_tokens"})), None)
            else:
                request[self.random.choice(FIELDS)] = self.value()
        return request

    def body(self) -> bytes:
        whole = json.dumps(self.mutated()).encode()
        cut = self.random.randrange(len(whole))
        deep = self.random.randrange(1, 100_000)
        broken = [
            whole[:cut],
            whole[:cut] + b"\xff" + whole[cut:],
            whole + b"}",
            b"[" * deep,
            b'{"a":' * deep,
        ]
        return self.random.choice([*broken, self.random.randbytes(cut), b"", b"x" * 9_000_000])


class Caller:
    """A client that sends the requests of a fuzzer and counts the responses."""

    def __init__(self, process: Process, seed: int) -> None:
        self.process, self.fuzzer = process, Fuzzer(seed)
        self.statuses: Counter[int] = Counter()
        self.gone = 0
        self.wrong: list[str] = []

    def run(self, count: int) -> None:
        with self.process.client() as client:
            for _ in range(count):
                kind = self.fuzzer.random.random()
                if kind < 0.06:
                    self.leave()
                    continue
                request = self.fuzzer.valid() if kind < 0.5 else self.fuzzer.mutated()
                method, path, body, headers = self.request(kind, request)
                try:
                    response = client.request(method, path, content=body, headers=headers)
                except httpx.HTTPError as error:
                    self.wrong.append(f"{type(error).__name__} after {body[:300]!r}")
                    return
                self.check(response, body, valid=kind < 0.5)

    def request(self, kind: float, request: Any) -> tuple[str, str, bytes, dict[str, str]]:
        path, headers = "/v1/chat/completions", {"Content-Type": "application/json"}
        if kind < 0.85:
            return "POST", path, json.dumps(request).encode(), headers
        if kind < 0.95:
            return "POST", path, self.fuzzer.body(), headers
        choose = self.fuzzer.random.choice
        method = choose(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "POST"])
        path = choose(
            [path, path + "/", "/", "/v1/models", "/v1/models/m", "/v1/models/%00/../x", "/x?y=z", "//v1"]
        )
        kinds = [
            "text/plain",
            "application/json; charset=utf-16",
            "multipart/form-data",
            "",
            "application/json",
        ]
        return method, path, json.dumps(request).encode(), {"Content-Type": choose(kinds)}

    def check(self, response: httpx.Response, body: bytes, *, valid: bool) -> None:
        self.statuses[response.status_code] += 1
        if response.status_code not in EXPECTED or (valid and response.status_code not in (200, 429)):
            self.wrong.append(f"{response.status_code} {response.text[:300]} after {body[:300]!r}")
        elif response.status_code >= 400 and response.request.method != "HEAD":
            error = response.json()["error"]
            if not (
                error["message"] and error["type"] and set(error) == {"message", "type", "param", "code"}
            ):
                self.wrong.append(f"an error of another form: {error}")
        elif response.headers.get("content-type", "").startswith("text/event-stream") and (
            not response.text.endswith("data: [DONE]\n\n") or '"error"' in response.text
        ):
            self.wrong.append(f"a stream that broke off: {response.text[-300:]}")

    def leave(self) -> None:
        """Disconnect at some stage of a request."""
        request = self.fuzzer.valid() | {"max_completion_tokens": 40, "max_tokens": 40, "stream": True}
        body = json.dumps(request).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        whole = head + body
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(self.process.socket)
            client.sendall(
                whole[: self.fuzzer.random.choice([0, 9, len(head), len(whole) - 5, len(whole), 10**9])]
            )
            if self.fuzzer.random.random() < 0.3 and len(whole) < 10**9:
                client.settimeout(0.2)
                with suppress(TimeoutError):
                    client.recv(self.fuzzer.random.choice([1, 300]))
        self.gone += 1


@pytest.mark.model
@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_fuzzed_requests_cause_no_engine_exit_or_server_error(tmp_path, write_settings, model_path, capsys):
    seed = int(os.environ.get("CLAWD_FUZZ_SEED") or random.SystemRandom().randrange(10**9))
    process = Process(write_settings(model_path, context_size=256, parallel=8, queue=CALLERS), tmp_path)
    with capsys.disabled():
        print(f"\nfuzzing the engine: {REQUESTS} requests, seed {seed}", flush=True)
    try:
        process.wait_ready()
        callers = [Caller(process, seed * CALLERS + number) for number in range(CALLERS)]
        threads = [threading.Thread(target=caller.run, args=(REQUESTS // CALLERS,)) for caller in callers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = sum((caller.statuses for caller in callers), Counter())
        gone = sum(caller.gone for caller in callers)
        with capsys.disabled():
            print(f"statuses {dict(sorted(statuses.items()))}, left early {gone}", flush=True)
        assert not [wrong for caller in callers for wrong in caller.wrong][:20]
        assert statuses.total() + gone == REQUESTS // CALLERS * CALLERS
        assert statuses[200] > REQUESTS // 5, "or little was computed"
        assert statuses[400] > REQUESTS // 10, "or little was wrong"
        with process.client() as client:
            answer = client.post("/v1/chat/completions", json=chat("What is the capital of France?"))
            assert "Paris" in answer.json()["choices"][0]["message"]["content"]
            assert 'outcome="failed"' not in client.get("/metrics").text
        assert process.end() == 0
        assert not [line for line in process.lines() if "[ERROR]" in line or "Traceback" in line]
    finally:
        process.popen.kill()
        process.popen.wait()
