"""Where the console of a deployed bot is, and what is made of its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest

from inventory.errors import ClawdError, ConnectError
from inventory.load import LoadedInventory
from inventory.model import Inventory
from provision.chat import ConsoleEndpoint, ask, console_of


def loaded(folder: Path, names: tuple[str, ...], **channels: object) -> LoadedInventory:
    declared = {
        "project": "team",
        "hosts": {"front": {"address": "192.0.2.1"}},
        "models": {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}},
        "tls": {"names": names},
        "channels": channels,
    }
    return LoadedInventory(Inventory.model_validate(declared), folder / "team.yml")


@pytest.mark.parametrize(
    ("names", "at"),
    [
        ((), "192.0.2.1"),
        (("bot.example.com", "other.example.com"), "bot.example.com"),
        (("*.example.com", "bot.example.com"), "bot.example.com"),
        (("*.example.com",), "192.0.2.1"),
        (("2001:db8::1",), "[2001:db8::1]"),
    ],
)
def test_console_address_is_that_of_a_reachable_front(
    tmp_path: Path, names: tuple[str, ...], at: str
) -> None:
    authority = tmp_path / ".clawd" / "team" / "ca" / "ca.pem"
    authority.parent.mkdir(parents=True)
    authority.touch()
    console = console_of(loaded(tmp_path, names, console={"jwt_secret": "s" * 40}))
    assert console.url == f"https://{at}:443/console/v1/messages"
    assert (console.host, console.authority) == ("front", authority)
    assert "sss" not in repr(console)


def test_bot_without_a_console_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ClawdError, match="has no console"):
        console_of(loaded(tmp_path, ()))


SECRET = "s" * 40
CONSOLE = ConsoleEndpoint("https://bot.example.com/console/v1/messages", SECRET, None, "front")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Response | httpx.HTTPError]:
    """What the bot answers with; a request that it does not believe is refused."""
    prepared: list[httpx.Response | httpx.HTTPError] = []
    whole_client = httpx.Client

    def answer(request: httpx.Request) -> httpx.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        assert jwt.decode(token, SECRET, algorithms=["HS256"])["sub"] == "ann"
        found = prepared.pop()
        if isinstance(found, httpx.HTTPError):
            raise found
        return found

    monkeypatch.setattr(httpx, "Client", lambda **_: whole_client(transport=httpx.MockTransport(answer)))
    return prepared


EVENT_STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}


def events(*lines: str) -> httpx.Response:
    return httpx.Response(200, content="\n".join(lines).encode(), headers=EVENT_STREAM)


def asked() -> Iterator[str]:
    return ask(CONSOLE, "hello", user="ann", conversation="laptop")


def test_answer_is_streamed_and_completed_by_the_final_event(
    answers: list[httpx.Response | httpx.HTTPError],
) -> None:
    answers.append(
        events(
            "event: delta", 'data: {"text": "Par"}', "", ": keep-alive", "",
            "event: delta", 'data: {"text": "is"}', "", "event: done", 'data: {"text": "Paris."}', "", "",
        )
    )  # fmt: skip
    assert list(asked()) == ["Par", "is", "."]


def test_replaced_answer_is_shown_whole(
    answers: list[httpx.Response | httpx.HTTPError],
) -> None:
    answers.append(
        events("event: delta", 'data: {"text": "Lon"}', "", "event: done", 'data: {"text": "Paris."}', "", "")
    )
    assert list(asked()) == ["Lon", "\nParis."]


def test_error_event_of_the_bot_is_reported(answers: list[httpx.Response | httpx.HTTPError]) -> None:
    answers.append(
        events(
            "event: delta", 'data: {"text": "Par"}', "", "event: error", 'data: {"message": "full"}', "", ""
        )
    )
    pieces = asked()
    assert next(pieces) == "Par"
    with pytest.raises(ClawdError, match="front: full"):
        next(pieces)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_answer_with_unicode_line_separators_stays_whole(
    answers: list[httpx.Response | httpx.HTTPError], end: str
) -> None:
    """httpx breaks lines at U+2028, too; the bot sends such characters as they are."""
    text = "a\u2028b\u2029c\x85d\x0ce"
    data = json.dumps({"text": text}, ensure_ascii=False)
    assert "\u2028" in data
    body = end.join(["event: delta", f"data: {data}", "", "event: done", f"data: {data}", "", ""])
    pieces = (bytes([byte]) for byte in body.encode())
    answers.append(httpx.Response(200, content=pieces, headers=EVENT_STREAM))
    assert list(asked()) == [text]


def test_page_in_place_of_an_answer_is_reported_with_its_type(
    answers: list[httpx.Response | httpx.HTTPError],
) -> None:
    answers.append(httpx.Response(200, html="<html>event: done\ndata: {}\n\n"))
    with pytest.raises(ConnectError, match=r"the bot does not answer at https://.*'text/html'"):
        list(asked())


@pytest.mark.parametrize("broken", [(), ("event: delta", 'data: {"te'), ("event: done", "data: ")])
def test_interrupted_stream_is_reported(
    broken: tuple[str, ...], answers: list[httpx.Response | httpx.HTTPError]
) -> None:
    answers.append(events("event: delta", 'data: {"text": "Par"}', "", "", *broken))
    pieces = asked()
    assert next(pieces) == "Par"
    with pytest.raises(ConnectError, match="front: the answer is incomplete: the connection ended") as caught:
        next(pieces)
    assert "send the message again" in caught.value.advice


def test_refused_token_is_reported(answers: list[httpx.Response | httpx.HTTPError]) -> None:
    answers.append(httpx.Response(401, json={"error": "invalid token"}))
    with pytest.raises(
        ClawdError, match="authentication failed: the bot does not accept the token"
    ) as caught:
        list(asked())
    assert "secret of the console" in caught.value.advice
    assert SECRET not in str(caught.value)


def test_hint_of_the_bot_is_separate_from_its_message(
    answers: list[httpx.Response | httpx.HTTPError],
) -> None:
    problem = {"message": "no answer yet: the bot is restarting", "hint": "wait a minute"}
    answers.append(events("event: error", f"data: {json.dumps(problem)}", "", ""))
    answers.append(httpx.Response(503, json=problem))
    for _ in range(2):
        with pytest.raises(ClawdError, match="no answer yet: the bot is restarting") as caught:
            list(asked())
        assert caught.value.message.endswith("no answer yet: the bot is restarting")
        assert caught.value.advice == "wait a minute"


def test_error_without_a_hint_gets_one(answers: list[httpx.Response | httpx.HTTPError]) -> None:
    answers.append(events("event: error", 'data: {"message": "full"}', "", ""))
    with pytest.raises(ClawdError, match="front: full") as caught:
        list(asked())
    assert caught.value.advice


def test_refusal_of_the_bot_is_reported_with_its_text(
    answers: list[httpx.Response | httpx.HTTPError],
) -> None:
    answers.append(httpx.Response(413, text="too long\n"))
    with pytest.raises(ClawdError, match=r"refused \(413\): too long"):
        list(asked())


@pytest.mark.parametrize(
    "data", ["5", "[]", "null", '"text"', "{}", '{"text": 5}', '{"message": []}', "[" * 20_000]
)
@pytest.mark.parametrize("event", ["delta", "done", "error", "waiting"])
def test_malformed_event_ends_the_answer(
    event: str, data: str, answers: list[httpx.Response | httpx.HTTPError]
) -> None:
    answers.append(events(f"event: {event}", f"data: {data}", ""))
    with pytest.raises(ConnectError, match="the answer is incomplete"):
        list(asked())


def test_untrusted_certificate_is_not_attributed_to_the_proxy(
    answers: list[httpx.Response | httpx.HTTPError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.internal:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    answers.append(httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"))
    with pytest.raises(ConnectError, match="the bot does not answer"):
        list(asked())
    answers.append(httpx.ProxyError("503 Service Unavailable"))
    with pytest.raises(
        ConnectError, match=r"the proxy http://proxy\.internal:3128 of HTTPS_PROXY cannot connect"
    ):
        list(asked())
    monkeypatch.setenv("NO_PROXY", "bot.example.com")
    answers.append(httpx.ConnectError("refused"))
    with pytest.raises(ConnectError, match="the bot does not answer"):
        list(asked())


def test_unreachable_bot_is_reported_with_its_address(
    answers: list[httpx.Response | httpx.HTTPError],
) -> None:
    answers.append(httpx.ConnectError("Connection refused"))
    with pytest.raises(ConnectError, match=r"does not answer at https://bot\.example\.com"):
        list(asked())
