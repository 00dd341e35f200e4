"""The engine's process on a Unix socket, as systemd runs it."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.model

RUNTIME = Path(__file__).parents[2]
LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[[A-Z]+\] .+$")


# The engine with a drain timeout of one second.
SHORT_DRAIN = (
    "-c",
    (
        "import sys; from clawd_runtime.engine import main, process\n"
        "process.DRAIN_SECONDS = 1; sys.exit(main.main())"
    ),
)
# Suppresses SmolLM2's tokens that end an answer, so that it has the maximum length.
ENDLESS = {"0": -100, "2": -100}


# Some machines name their processor to OpenBLAS, which then believes that of an emulator, too.
OURS = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}


class Process:
    def __init__(
        self,
        config: Path,
        tmp_path: Path,
        emulator: tuple[str, ...] = (),
        program: tuple[str, ...] = ("-m", "clawd_runtime.engine"),
        **environment: str,
    ) -> None:
        self.socket = json.loads(config.read_text())["socket"]
        self.log = tmp_path / "log"
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                [*emulator, sys.executable, "-P", *program, "--config", str(config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=OURS | {"PYTHONPATH": str(RUNTIME)} | environment,
            )

    def client(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=self.socket)
        return httpx.Client(transport=transport, base_url="http://engine", timeout=60)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.popen.poll() is None:
            try:
                with self.client() as client:
                    if client.get("/health").status_code == 200:
                        return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        pytest.fail(f"the engine did not become ready:\n{self.log.read_text()}")

    def end(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(30)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def start(tmp_path):
    started = []

    def go(config: Path, emulator: tuple[str, ...] = (), **how: Any) -> Process:
        process = Process(config, tmp_path, emulator, **how)
        started.append(process)
        return process

    yield go
    for process in started:
        process.popen.kill()
        process.popen.wait()


@pytest.fixture
def manager(tmp_path):
    """Yield the notification socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        path = tmp_path / "notify"
        receiver.bind(str(path))
        receiver.settimeout(30)
        yield receiver, str(path)


def chat(question: str, **fields: object) -> dict:
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": question},
    ]
    return {"model": "m", "messages": messages, "temperature": 0, "max_tokens": 40} | fields


def test_engine_process_answers_question(start, write_settings, model_path, manager):
    receiver, notify_socket = manager
    process = start(write_settings(model_path), NOTIFY_SOCKET=notify_socket, WATCHDOG_USEC="600000")
    received = b""
    while b"READY=1" not in received:
        received = receiver.recv(4096)
    with process.client() as client:
        answer = client.post("/v1/chat/completions", json=chat("What is the capital of France?"))
        assert "Paris" in answer.json()["choices"][0]["message"]["content"]
    while receiver.recv(4096) != b"WATCHDOG=1":
        pass
    assert process.end() == 0
    assert not Path(process.socket).exists()
    assert all(LINE.match(line) for line in process.lines()), process.lines()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the engine of this machine is for another kind")
@pytest.mark.parametrize(
    ("processor", "variant"),
    [
        ("kvm64", "x64"),  # the oldest that Debian's amd64 supports; some providers' machines report it
        pytest.param("Nehalem", "sse42", marks=pytest.mark.campaign),
        pytest.param("SandyBridge", "sandybridge", marks=pytest.mark.campaign),
        pytest.param("Haswell", "haswell", marks=pytest.mark.campaign),
    ],
)
def test_engine_runs_on_older_processors(start, write_settings, model_path, processor, variant):
    """Runs in an emulator, which ends a program that uses an instruction the processor lacks."""
    qemu = os.environ.get("CLAWD_TEST_QEMU") or shutil.which("qemu-x86_64")
    assert qemu, "no emulator: install qemu-user, or run `make .venv/tools` and set CLAWD_TEST_QEMU"
    settings = write_settings(model_path, context_size=256, parallel=1)
    process = start(settings, (qemu, "-cpu", processor))
    process.wait_ready()
    assert [line for line in process.lines() if f"back end {variant}, " in line]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of France?"}]
    with process.client() as client:
        answer = client.post("/v1/chat/completions", json=chat("", messages=messages, max_tokens=6))
        assert "Paris" in answer.json()["choices"][0]["message"]["content"]
    assert process.end() == 0


def test_running_answers_are_completed_after_sigterm(start, write_settings, model_path):
    process = start(write_settings(model_path))
    process.wait_ready()
    with process.client() as client:
        story = chat("Tell me a long story about the sea.", stream=True, max_tokens=120, temperature=1)
        with client.stream("POST", "/v1/chat/completions", json=story) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.popen.send_signal(signal.SIGTERM)
            rest = list(lines)
    assert "data: [DONE]" in rest
    assert process.popen.wait(30) == 0


def test_client_disconnect_stops_computing(start, write_settings, model_path):
    process = start(write_settings(model_path))
    process.wait_ready()
    with process.client() as client:
        story = chat("Tell me a long story about the sea.", stream=True, max_tokens=900, temperature=1)
        with client.stream("POST", "/v1/chat/completions", json=story) as answer:
            next(answer.iter_lines())
        deadline = time.monotonic() + 5
        while 'requests_total{outcome="cancelled"} 1.0' not in client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert "clawd_engine_running_sequences 0.0" in client.get("/metrics").text


def test_concurrent_requests_are_all_answered(start, write_settings, model_path):
    process = start(write_settings(model_path))
    process.wait_ready()
    texts: list[str] = []

    def ask() -> None:
        with process.client() as client:
            answer = client.post("/v1/chat/completions", json=chat("What is the capital of France?"))
            texts.append(answer.json()["choices"][0]["message"]["content"])

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(texts) == 12
    assert all("Paris" in text for text in texts)


@pytest.mark.parametrize("damage", ["missing", "no model", "damaged"])
def test_unloadable_model_exits_with_one_line(start, write_settings, tmp_path, damage):
    model = tmp_path / "m.gguf"
    if damage == "no model":
        model.write_bytes(b"<html>")
    if damage == "damaged":
        model.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 9, 9) + b"\xff" * 4096)
    process = start(write_settings(model))
    assert process.popen.wait(60) == 1
    errors = [line for line in process.lines() if "[ERROR]" in line]
    assert len(errors) == 1
    assert str(model) in errors[0]
    assert "Traceback" not in process.log.read_text()


def test_invalid_settings_exit_with_one_line(start, write_settings, tmp_path):
    process = start(write_settings(tmp_path / "m.gguf", paralel=3))
    assert process.popen.wait(60) == 2
    assert len(process.lines()) == 1
    assert "paralel" in process.lines()[0]


def test_waiting_requests_are_answered_after_sigterm(start, write_settings, model_path):
    process = start(write_settings(model_path, parallel=1))
    process.wait_ready()
    statuses: list[int] = []

    def ask() -> None:
        with process.client() as client:
            statuses.append(client.post("/v1/chat/completions", json=chat("Say hello.")).status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    with process.client() as client:
        deadline = time.monotonic() + 10
        while "clawd_engine_running_sequences 1.0" not in client.get("/metrics").text:
            assert time.monotonic() < deadline
    process.popen.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(60)
    assert statuses == [200] * 4
    assert process.popen.wait(30) == 0


def test_clients_get_error_after_drain_timeout(start, write_settings, model_path):
    process = start(write_settings(model_path), program=SHORT_DRAIN)
    process.wait_ready()
    with process.client() as client:
        story = chat("Tell me a long story.", stream=True, max_tokens=900, logit_bias=ENDLESS)
        with client.stream("POST", "/v1/chat/completions", json=story) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.popen.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
    assert "the engine is stopping" in rest[-1]
    assert process.popen.wait(30) == 0
    assert not [line for line in process.lines() if "Traceback" in line]


@pytest.fixture
def with_template(model_path, tmp_path):
    """Return a function that copies the model with another chat template, at most as long as its own."""

    def copy(source: str) -> Path:
        content = bytearray(model_path.read_bytes())
        key = b"tokenizer.chat_template"
        kind_at = content.index(key) + len(key)
        _, length = struct.unpack_from("<IQ", content, kind_at)
        text = source.encode() + b"{#" + b" " * (length - len(source.encode()) - 4) + b"#}"
        assert len(text) == length, "the template is too long"
        content[kind_at + 12 : kind_at + 12 + length] = text
        path = tmp_path / "other.gguf"
        path.write_bytes(content)
        return path

    return copy


TURNS = "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}{% endfor %}"
USERS = TURNS.replace("in messages", "in messages if m.role != 'system'")


def test_reasoning_opened_by_prompt_is_separated(start, write_settings, with_template):
    process = start(write_settings(with_template(TURNS + "{{ '<|im_start|>assistant\n<think>\n' }}")))
    process.wait_ready()
    with process.client() as client:
        answer = client.post("/v1/chat/completions", json=chat("Say hello.", max_tokens=5)).json()
    message, usage = answer["choices"][0]["message"], answer["usage"]
    assert message["content"] == ""
    assert message["reasoning_content"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == usage["completion_tokens"]


def test_system_prompt_reaches_model_whose_template_ignores_it(start, write_settings, with_template):
    process = start(write_settings(with_template(USERS + "{{ '<|im_start|>assistant\n' }}")))
    process.wait_ready()
    with process.client() as client:

        def tokens(system: str) -> int:
            messages = [{"role": "system", "content": system}, {"role": "user", "content": "Hi"}]
            answer = client.post("/v1/chat/completions", json=chat("", messages=messages, max_tokens=1))
            return answer.json()["usage"]["prompt_tokens"]

        assert tokens("Answer in one word. " * 20) > tokens("Answer.") + 60


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ messages[-1].content }}", "it loses the text of system, user, assistant messages"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "takes more than 2 s",
        ),
    ],
)
def test_unusable_template_exits_with_one_line(start, write_settings, with_template, source, why):
    process = start(write_settings(with_template(source)))
    assert process.popen.wait(60) == 1
    errors = [line for line in process.lines() if "[ERROR]" in line]
    assert len(errors) == 1
    assert why in errors[0]


def test_conversation_is_continued_after_a_restart(start, write_settings, model_path, tmp_path):
    """A switch to another number of conversations and back does not lose it either."""
    folder = tmp_path / "states"
    states = {"memory": 64 << 20, "disk": 1 << 30, "folder": str(folder)}
    question = chat(
        "What is the capital of France? " + "Answer in one word. " * 20, prompt_cache_key="chat 7"
    )
    more = [
        *question["messages"],
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": "And of Italy?"},
    ]
    cached = []
    for parallel, messages in ((2, question["messages"]), (1, question["messages"]), (2, more)):
        process = start(write_settings(model_path, parallel=parallel, states=states))
        process.wait_ready()
        with process.client() as client:
            waited = time.monotonic() + 30
            while not any("states of" in line and "found in" in line for line in process.lines()):
                assert time.monotonic() < waited
            answer = client.post("/v1/chat/completions", json=question | {"messages": messages}).json()
            assert answer["choices"][0]["message"]["content"]
            cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
        assert process.end() == 0
    assert cached[:2] == [0, 0]
    assert cached[2] > 100
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    files = list(folder.glob("*/*.state"))
    assert len(files) == 2
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}
    assert not any(b"chat 7" in file.read_bytes() for file in files)
