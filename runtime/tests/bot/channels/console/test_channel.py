"""The console over HTTP, with the real core."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from starlette.applications import Starlette

from clawd_runtime.bot.channels.base import AnswerProgress, ChannelContext
from clawd_runtime.bot.channels.console.channel import ConsoleChannel, ConsoleSettings
from clawd_runtime.bot.credentials import Credentials
from clawd_runtime.bot.models.attempt import ModelAnswer
from clawd_runtime.bot.store import tokens
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.text.messages import EN
from clawd_runtime.errors import SettingsError
from tests.bot.scripted import Chain, running

SECRET = "0123456789abcdef" * 4
Event = tuple[str, dict[str, str]]


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode(
        {"sub": "ada", "exp": time.time() + 60, "jti": uuid.uuid4().hex} | claims, secret, algorithm=algorithm
    )


class Growing:
    """Return a model that shows `steps` and answers with the last one."""

    def __init__(self, *steps: str) -> None:
        self.steps = steps
        self.asked: list[tuple[int, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, history: tuple[Turn, ...], question: str, progress: AnswerProgress) -> ModelAnswer:
        self.asked.append((len(history), question))
        for step in self.steps:
            progress.show(step)
            await asyncio.sleep(0.01)
        await self.gate.wait()
        return ModelAnswer(self.steps[-1])


class Desk:
    """Serve the console in this process."""

    def __init__(
        self, client: httpx.AsyncClient, chain: Chain, channel: ConsoleChannel, model: Growing
    ) -> None:
        self.client = client
        self.chain = chain
        self.channel = channel
        self.model = model

    async def ask(self, text: str = "hello", bearer: str | None = None, **body: Any) -> list[Event]:
        headers = {"Authorization": f"Bearer {bearer or token()}"}
        response = await self.client.post(
            "/console/v1/messages", json={"text": text, **body}, headers=headers
        )
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        return events(response.text)


def events(stream: str) -> list[Event]:
    found = []
    for block in stream.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


@asynccontextmanager
async def console(folder: Path, model: Growing, limit: int = 1000) -> AsyncIterator[Desk]:
    async with httpx.AsyncClient() as http:
        # The channel needs the store and the chain needs the channel, so the store is set afterwards.
        context = ChannelContext(None, http, Credentials({"console-jwt-secret": SECRET}), None)  # type: ignore[arg-type]
        channel = ConsoleChannel(ConsoleSettings(), context)
        chain = Chain(folder, channel, answerer=model, limit=limit)
        channel.context = ChannelContext(chain.store, http, context.credentials, None)
        app = httpx.ASGITransport(Starlette(routes=list(channel.routes())))
        async with running(chain), httpx.AsyncClient(transport=app, base_url="http://bot") as client:
            yield Desk(client, chain, channel, model)


async def test_answer_is_streamed(tmp_path: Path) -> None:
    async with console(tmp_path, Growing("你", "你好", "你好 \n\nthere")) as desk:
        stream = await desk.ask()
    assert stream[-1] == ("done", {"text": "你好 \n\nthere"})
    assert {name for name, _ in stream[:-1]} == {"delta"}
    assert "你好 \n\nthere".startswith("".join(data["text"] for _, data in stream[:-1]))


async def test_second_attempt_with_other_beginning(tmp_path: Path) -> None:
    async with console(tmp_path, Growing("Paris", "Lon", "London")) as desk:
        stream = await desk.ask()
    assert stream == [("delta", {"text": "Paris"}), ("done", {"text": "London"})]


async def test_conversations_and_users_are_separate(tmp_path: Path) -> None:
    model = Growing("answer")

    async with console(tmp_path, model) as desk:
        await desk.ask("1")
        await desk.ask("2")
        await desk.ask("3", conversation="other")
        await desk.ask("4", token(sub="bob"))
    assert model.asked == [(0, "1"), (2, "2"), (0, "3"), (0, "4")]


async def test_empty_id_or_conversation_is_absent(tmp_path: Path) -> None:
    model = Growing("answer")

    async with console(tmp_path, model) as desk:
        await desk.ask("1", id="")
        await desk.ask("2", id="", conversation="")
        await desk.ask("3", conversation="default")
    assert model.asked == [(0, "1"), (2, "2"), (4, "3")]


async def test_repeated_request_gets_stored_answer(tmp_path: Path) -> None:
    model = Growing("answer")
    async with console(tmp_path, model) as desk:
        first, again = await desk.ask(id="7"), await desk.ask(id="7")
        await desk.ask("x", token(sub="bob"), id="7")
    assert again == [first[-1]]
    assert [question for _, question in model.asked] == ["hello", "x"]


async def test_concurrent_repeated_request_waits_for_same_answer(tmp_path: Path) -> None:
    model = Growing("answer")
    async with console(tmp_path, model) as desk:
        model.gate.clear()
        both = asyncio.gather(desk.ask(id="7"), desk.ask(id="7"))
        await asyncio.sleep(0.1)
        model.gate.set()
        streams = await both
    assert [stream[-1] for stream in streams] == [("done", {"text": "answer"})] * 2
    assert len(model.asked) == 1


async def statuses(folder: Path, model: Growing, bearer: str, *bodies: dict[str, str]) -> list[int]:
    """Start a bot, send these requests under one token, and return their statuses."""
    headers = {"Authorization": f"Bearer {bearer}"}
    async with console(folder, model) as desk:
        answers = [
            await desk.client.post("/console/v1/messages", json=body, headers=headers) for body in bodies
        ]
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize(
    ("second", "status"),
    [
        ({"text": "hi", "id": "7"}, 200),
        ({"text": "hi", "id": "7", "conversation": "default"}, 200),
        ({"text": "hi", "id": "8"}, 401),
        ({"text": "other", "id": "7"}, 401),
        ({"text": "hi"}, 401),
        ({"text": "hi", "id": "7", "conversation": "other"}, 401),
    ],
)
async def test_token_is_accepted_again_only_for_same_request(
    tmp_path: Path, second: dict[str, str], status: int
) -> None:
    model, bearer = Growing("answer"), token()
    first = {"text": "hi", "id": "7"}
    assert await statuses(tmp_path, model, bearer, first, second, first) == [200, status, 200]
    assert [question for _, question in model.asked] == ["hi"]


async def test_captured_request_without_id_is_not_answered_twice(tmp_path: Path) -> None:
    model = Growing("answer")
    assert await statuses(tmp_path, model, token(), *[{"text": "hi"}] * 2) == [200, 401]
    assert len(model.asked) == 1


async def test_token_encoded_differently_is_the_same(tmp_path: Path) -> None:
    model, jti = Growing("answer"), uuid.uuid4().hex
    await statuses(tmp_path, model, token(jti=jti), {"text": "hi"})
    again = token(jti=jti, exp=time.time() + 50)
    assert await statuses(tmp_path, model, again, {"text": "hi"}) == [401]


async def test_used_token_is_stored_across_restarts_and_by_user(tmp_path: Path) -> None:
    model, jti = Growing("answer"), uuid.uuid4().hex
    assert await statuses(tmp_path, model, token(jti=jti), {"text": "hi"}) == [200]
    assert await statuses(tmp_path, model, token(jti=jti), {"text": "hi"}) == [401]
    assert await statuses(tmp_path, model, token(jti=jti, sub="bob"), {"text": "hi"}) == [200]


async def test_unreadable_request_does_not_use_token(tmp_path: Path) -> None:
    bodies = ({"text": ""}, {"text": "hi"})
    assert await statuses(tmp_path, Growing("answer"), token(), *bodies) == [422, 200]


async def test_token_that_cannot_be_stored_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MOST_TOKENS", 1)
    assert await statuses(tmp_path, Growing("answer"), token(), {"text": "hi", "id": "1"}) == [200]
    assert await statuses(tmp_path, Growing("answer"), token(), {"text": "hi"}) == [503]


async def test_rate_limited_request_gets_error(tmp_path: Path) -> None:
    async with console(tmp_path, Growing("answer"), limit=1) as desk:
        kinds = [(await desk.ask(id=str(number)))[-1] for number in (1, 2, 3, 3)]
    assert kinds[0] == ("done", {"text": "answer"})
    assert kinds[1] == ("done", {"text": EN.rate_limited.format(limit=1)})
    assert [name for name, _ in kinds[2:]] == ["error", "error"]


async def test_stop_ends_streams(tmp_path: Path) -> None:
    async with console(tmp_path, Growing("half")) as desk:
        desk.model.gate.clear()
        waiting = asyncio.create_task(desk.ask(id="7"))
        await asyncio.sleep(0.1)
        await desk.channel.close()
        stream = await waiting
    assert stream[-1][0] == "error"
    assert stream[-1][1]["message"] == "no answer yet: the bot is restarting"
    assert "same id" in stream[-1][1]["hint"]


async def _raw(desk: Desk, header: str | None, body: bytes) -> httpx.Response:
    headers = {} if header is None else {"Authorization": header}
    return await desk.client.post("/console/v1/messages", content=body, headers=headers)


FORGED = [
    None,
    "",
    "Basic YTpi",
    "Bearer ",
    "Bearer x.y.z",
    f"Bearer {token(secret='another secret of at least 32 bytes')}",
    f"Bearer {token(exp=time.time() - 1)}",
    f"Bearer {jwt.encode({'sub': 'ada'}, SECRET)}",
    f"Bearer {jwt.encode({'exp': time.time() + 60}, SECRET)}",
    f"Bearer {token(sub='')}",
    f"Bearer {jwt.encode({'sub': 'ada', 'exp': time.time() + 60, 'jti': '1'}, '', algorithm='none')}",
    f"Bearer {token(algorithm='HS512')}",
    f"Bearer {token(algorithm='HS384')}",
    f"Bearer {token(nbf=time.time() + 600)}",
]


@pytest.mark.parametrize("header", FORGED, ids=[str(number) for number in range(len(FORGED))])
async def test_request_without_valid_bearer_token_is_refused(tmp_path: Path, header: str | None) -> None:
    model = Growing("answer")
    async with console(tmp_path, model) as desk:
        response = await _raw(desk, header, b'{"text": "hi"}')
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert model.asked == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"{}", "text"),
        (b'{"text": ""}', "text"),
        (b'{"text": 5}', "text"),
        (b'{"text": "x", "id": 7}', "id"),
        (b'{"text": "x", "colour": "blue"}', "colour"),
        (b'{"text": "' + b"x" * 40_000 + b'"}', "text"),
    ],
)
async def test_invalid_body_gets_422_with_fields(tmp_path: Path, body: bytes, said: str) -> None:
    async with console(tmp_path, Growing("answer")) as desk:
        response = await _raw(desk, f"Bearer {token()}", body)
    assert response.status_code == 422
    assert response.json()["message"].startswith(said)
    assert len(response.content) < 500


def test_short_secret_is_refused() -> None:
    credentials = Credentials({"console-jwt-secret": "short"})
    context = ChannelContext(None, None, credentials, None)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="at least 32 bytes"):
        ConsoleChannel(ConsoleSettings(), context)


async def test_client_that_disconnects_early_is_removed(tmp_path: Path) -> None:
    """With a slow disk, the client may disconnect before the message is stored."""

    async with console(tmp_path, Growing("answer")) as desk:

        async def receive() -> dict[str, Any]:
            return bodies.pop(0) if bodies else {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            await asyncio.sleep(0)

        bodies = [{"type": "http.request", "body": b'{"text": "hi"}'}]
        (route,) = desk.channel.routes()
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/console/v1/messages",
            "headers": [(b"authorization", f"Bearer {token()}".encode())],
        }
        await route.handle(scope, receive, send)
        await desk.chain.settled()
        assert len(desk.channel._streams) == 0
