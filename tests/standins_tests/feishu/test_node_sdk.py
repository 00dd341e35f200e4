"""Events as npm's `@larksuiteoapi/node-sdk`, the platform's own receiver for Node.js, takes them.

It checks the signature over JSON that it has parsed and serialised again, without a space: only the exact
bytes of the platform pass. `make .venv/node` installs it.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.envelope import Envelope, encrypt, plain, signed, wrapped
from tests.standins.feishu.events import event_of, user_message
from tests.standins.feishu.state import Credentials, Platform
from tests.standins.plain_http import NO_TLS
from tests.standins.serve import serving

ROOT = Path(__file__).resolve().parents[3]
MODULES = Path(os.environ.get("CLAWD_TEST_NODE_MODULES", ROOT / ".venv/node/node_modules"))
RECEIVER = ROOT / "tests/node/feishu_receiver.js"
APP = Credentials()


class NodeReceiver:
    """The webhook of the SDK, in a process that prints its port and then what it accepts."""

    def __init__(self, printed: IO[str]) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(printed,), daemon=True).start()
        self.url = f"http://127.0.0.1:{int(self._lines.get(timeout=10))}/hook"

    def _read(self, printed: IO[str]) -> None:
        for line in printed:
            self._lines.put(line)

    def event(self) -> dict[str, Any]:
        """Return the next event that it accepted. Raise `queue.Empty` when there is none."""
        event: dict[str, Any] = json.loads(self._lines.get(timeout=10))
        return event

    def post(self, envelope: Envelope) -> None:
        headers = {**envelope.headers, "Content-Type": "application/json"}
        httpx.post(self.url, content=envelope.body, headers=headers, trust_env=False, verify=NO_TLS)


@contextmanager
def node_receiver() -> Iterator[NodeReceiver]:
    node = shutil.which("node")
    if node is None or not (MODULES / "@larksuiteoapi/node-sdk").is_dir():
        pytest.fail(f"no @larksuiteoapi/node-sdk in {MODULES}: run `make .venv/node`; `make test` does")
    process = subprocess.Popen(
        [node, RECEIVER, APP.encrypt_key, APP.verification_token],
        env={"PATH": os.environ["PATH"], "NODE_PATH": str(MODULES)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield NodeReceiver(process.stdout)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def theirs() -> Iterator[NodeReceiver]:
    with node_receiver() as receiver:
        yield receiver


@pytest.fixture
def control() -> Iterator[Control]:
    with serving(FeishuStandin(APP, pace=0.01).app) as url, Control(url) as control:
        yield control


@pytest.mark.parametrize("text", ["hello", "你好 😀", 'quoted "a" \\ / \n\t', "<at> & é"])
def test_node_sdk_accepts_the_challenge_and_events_of_the_stand_in(
    control: Control, theirs: NodeReceiver, text: str
) -> None:
    control.post("webhook", url=theirs.url)
    sent = control.post("messages", text=text, user="ou_ada")
    event = theirs.event()
    assert event["event_id"] == sent["event_id"]
    assert event["message"]["message_id"] == sent["message"]["message_id"]
    assert json.loads(event["message"]["content"]) == {"text": text}
    assert control.eventually(lambda: control.get("deliveries"))[0]["status"] == 200


def event(text: str) -> dict[str, Any]:
    platform = Platform(APP)
    return event_of(platform, user_message(platform, {"text": text}))


def test_node_sdk_refuses_json_that_is_not_compact(theirs: NodeReceiver) -> None:
    """So the test above fails when the stand-in's JSON has a space."""
    ciphertext = base64.b64encode(encrypt(APP.encrypt_key, plain(event("spaced")))).decode()
    for separators in ((", ", ": "), (",", ": ")):
        body = json.dumps({"encrypt": ciphertext}, separators=separators).encode()
        theirs.post(signed(APP.encrypt_key, body, time.time()))
    theirs.post(wrapped(APP.encrypt_key, event("compact"), time.time()))
    assert json.loads(theirs.event()["message"]["content"]) == {"text": "compact"}
