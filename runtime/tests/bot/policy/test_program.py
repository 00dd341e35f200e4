"""The bot's program with a policy file that changes while it runs."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest

from tests.bot.program import Program, model_server
from tests.standins.plain_http import NO_TLS
from tests.standins.serve import serving

JWT_SECRET = "console-secret-console-secret-console"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    policy = tmp_path / "policy.json"
    written(policy, "法轮功")
    with (
        serving(model_server()) as model,
        Program(
            tmp_path, model, {"console": {}}, {"console-jwt-secret": JWT_SECRET}, policy=str(policy)
        ) as made,
    ):
        made.start()
        made.wait_alive()
        yield made


def written(file: Path, *words: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"words": [{"name": "w", "words": words}]}), "utf-8")
    new.replace(file)


def events(program: Program, text: str) -> str:
    """Return the whole stream of events of an answer."""
    token = jwt.encode({"sub": "ada", "exp": time.time() + 60, "jti": uuid.uuid4().hex}, JWT_SECRET)
    response = httpx.post(
        f"{program.url}/console/v1/messages",
        json={"text": text, "id": uuid.uuid4().hex},
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        verify=NO_TLS,
        timeout=30.0,
    )
    assert response.status_code == 200
    return response.text


def wait_for(program: Program, line: str) -> None:
    deadline = time.monotonic() + 20.0
    while not re.search(line, program.get("/metrics").text, re.MULTILINE):
        assert time.monotonic() < deadline, program.log.read_text()[-2000:]
        time.sleep(0.1)


@pytest.mark.slow
def test_policy_changes_while_the_bot_runs_and_a_bad_file_leaves_it_in_force(program: Program) -> None:
    policy = program.folder / "policy.json"
    assert program.process is not None
    started = program.process.pid
    first = events(program, "说法輪功和白痴")
    assert '"re: 说＊＊＊和白痴"' in first
    assert "輪" not in first

    written(policy, "法轮功", "白痴")
    wait_for(program, r"^clawd_policy_words\{.*\} 2\.0$")
    assert '"re: 说＊＊＊和＊＊"' in events(program, "说法輪功和白痴")

    policy.write_text("{", "utf-8")
    wait_for(program, "^clawd_policy_valid 0")
    assert str(policy) in program.log.read_text()
    assert '"re: 说＊＊＊和＊＊"' in events(program, "说法輪功和白痴")

    written(policy)
    wait_for(program, "^clawd_policy_valid 1")
    assert '"re: 说法輪功和白痴"' in events(program, "说法輪功和白痴")
    assert (program.process.pid, program.process.poll()) == (started, None)


@pytest.mark.slow
def test_credential_never_reaches_the_console(program: Program) -> None:
    found = events(program, f"{JWT_SECRET} {' '.join(JWT_SECRET)}")
    assert JWT_SECRET[8:] not in found.replace(" ", "")
    assert "[credential removed]" in found
