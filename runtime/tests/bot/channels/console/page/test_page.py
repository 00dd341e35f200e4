"""The page over HTTP, with the real core: logging in, chatting, conversations, and who may do it."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from starlette.applications import Starlette

from clawd_runtime.bot.channels.base import AnswerProgress, ChannelContext
from clawd_runtime.bot.channels.console.channel import ConsoleChannel, ConsoleSettings
from clawd_runtime.bot.channels.console.page import rendering, sessions
from clawd_runtime.bot.credentials import Credentials
from clawd_runtime.bot.models.attempt import ModelAnswer
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.pages import StoredPages
from tests.bot.scripted import Chain, running

SECRET = "0123456789abcdef" * 4
PAGE = {"Sec-Fetch-Site": "same-origin"}
Event = tuple[str, dict[str, Any]]


def link_token(user: str = "ada", secret: str = SECRET, **claims: Any) -> str:
    now = time.time()
    given = {"sub": user, "aud": "console-page", "iat": now - 10, "exp": now + 60, "jti": uuid.uuid4().hex}
    return jwt.encode(given | claims, secret, algorithm="HS256")


class Model:
    """A model that shows `steps`, waits for its gate, and answers with the last step."""

    def __init__(self, *steps: str) -> None:
        self.steps = steps or ("answer",)
        self.asked: list[tuple[int, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, history: tuple[Turn, ...], question: str, progress: AnswerProgress) -> ModelAnswer:
        self.asked.append((len(history), question))
        for step in self.steps:
            progress.show(step)
            await asyncio.sleep(0.15)
        await self.gate.wait()
        return ModelAnswer(self.steps[-1])


class Browser:
    """A client of the page that keeps its cookie."""

    def __init__(self, client: httpx.AsyncClient, language: str = "en") -> None:
        self.client = client
        self.client.headers["Accept-Language"] = language

    async def log_in(self, user: str = "ada", token: str = "") -> httpx.Response:
        return await self.post("session", {"token": token or link_token(user)})

    async def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.client.post(
            f"/console/{path}", json=body, headers=PAGE if headers is None else headers
        )

    async def page(self, query: str = "") -> str:
        response = await self.client.get(f"/console/{query}")
        assert response.status_code == 200
        return response.text

    async def ask(self, text: str, conversation: str = "c1", id: str = "") -> list[Event]:
        body = {"text": text, "conversation": conversation, "id": id or uuid.uuid4().hex}
        response = await self.post("messages", body)
        assert response.status_code == 200, response.text
        return events(response.text)


def events(stream: str) -> list[Event]:
    found = []
    for block in stream.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def shown(stream: list[Event]) -> str:
    """Return the HTML of an answer as the page's script puts it together."""
    elements: list[str] = []
    for name, data in stream:
        if name in ("part", "done"):
            elements[data["from"] :] = [data["html"]] if data["html"] else []
    return "".join(elements)


def links(page: str) -> list[tuple[str, str]]:
    """Return the conversations of a page: addresses and titles."""
    (found,) = re.findall(r'<ul id="conversations">(.*?)</ul>', page)
    return [(unescape(a), unescape(t)) for a, t in re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', found)]


def turns(page: str) -> list[str]:
    return [unescape(re.sub(r"<[^>]+>", "", each)) for each in re.findall(r"<article.*?</article>", page)]


@asynccontextmanager
async def serving(
    folder: Path, model: Model | None = None, *, limit: int = 1000, page: bool = True, **context: Any
) -> AsyncIterator[Callable[..., Browser]]:
    """Serve the page; yield a function that opens a browser."""
    async with httpx.AsyncClient() as http:
        # The channel needs the store and the chain needs the channel, so the store is set afterwards.
        credentials = Credentials({"console-jwt-secret": SECRET})
        before = ChannelContext(None, http, credentials, None)  # type: ignore[arg-type]
        channel = ConsoleChannel(ConsoleSettings(page=page), before)
        chain = Chain(folder, channel, answerer=model or Model(), limit=limit, language="auto")
        pages = StoredPages(chain.database)
        channel.context = ChannelContext(chain.store, http, credentials, None, pages=pages, **context)
        app = httpx.ASGITransport(Starlette(routes=list(channel.routes())))
        clients: list[httpx.AsyncClient] = []

        def browser(language: str = "en") -> Browser:
            clients.append(httpx.AsyncClient(transport=app, base_url="https://bot.example.com"))
            return Browser(clients[-1], language)

        async with running(chain):
            yield browser
            for client in clients:
                await client.aclose()


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with serving(tmp_path) as opened:
        yield opened()


async def test_page_without_session_shows_no_chat(browser: Browser) -> None:
    page = await browser.page()
    assert "You are not logged in" in page
    assert "composer" not in page
    assert (await browser.client.get("/console/session")).status_code == 401


async def test_link_logs_in_once(tmp_path: Path) -> None:
    token = link_token()
    async with serving(tmp_path) as opened:
        first, second = opened(), opened()
        response = await first.log_in(token=token)
        assert response.status_code == 204
        assert "composer" in await first.page()
        again = await second.log_in(token=token)
        assert again.status_code == 401
        assert again.json() == {"message": "This link has expired or was already used. Ask for a new one."}
        assert "composer" not in await second.page()


async def test_cookie_is_for_this_host_over_https_and_not_for_scripts_or_other_sites(
    browser: Browser,
) -> None:
    (cookie,) = (await browser.log_in()).headers.get_list("set-cookie")
    name, *attributes = cookie.split("; ")
    assert name.startswith("__Host-clawd-page=")
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=strict", f"Max-Age={7 * 24 * 3600}"} == set(attributes)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x.y.z",
        link_token(secret="another secret that is long enough.."),
        link_token(aud="something else"),
        link_token(aud=["console-page"]),
        link_token(exp=time.time() - 1),
        link_token(iat=time.time() - 10, exp=time.time() + 25 * 3600),
        jwt.encode({"sub": "ada", "exp": time.time() + 60, "jti": "1"}, SECRET, algorithm="HS256"),
    ],
    ids=["empty", "garbage", "other key", "other audience", "list", "expired", "too long", "api"],
)
async def test_invalid_link_is_refused(browser: Browser, token: str) -> None:
    response = await browser.log_in(token=token) if token else await browser.post("session", {"token": ""})
    assert response.status_code == 401
    assert "set-cookie" not in response.headers


async def test_token_of_a_link_is_not_accepted_by_the_api(browser: Browser) -> None:
    headers = {"Authorization": f"Bearer {link_token()}"}
    response = await browser.client.post("/console/v1/messages", json={"text": "hi"}, headers=headers)
    assert response.status_code == 401


async def test_session_of_another_key_or_a_guess_is_not_accepted(browser: Browser) -> None:
    for cookie in ("guess", "x" * 5000, ""):
        browser.client.cookies.set(sessions.COOKIE, cookie, domain="bot.example.com")
        assert "composer" not in await browser.page()


async def test_log_out_ends_the_session_itself(browser: Browser) -> None:
    await browser.log_in()
    kept = browser.client.cookies[sessions.COOKIE]
    response = await browser.post("session/end", {})
    assert response.status_code == 204
    assert "composer" not in await browser.page()
    browser.client.cookies.set(sessions.COOKIE, kept, domain="bot.example.com")
    assert "composer" not in await browser.page()


async def test_new_login_ends_the_session_before_it(browser: Browser) -> None:
    await browser.log_in("ada")
    kept = browser.client.cookies[sessions.COOKIE]
    await browser.log_in("bob")
    browser.client.cookies.clear()
    browser.client.cookies.set(sessions.COOKIE, kept, domain="bot.example.com")
    assert "composer" not in await browser.page()


async def test_store_has_neither_session_nor_token(tmp_path: Path) -> None:
    token = link_token()
    async with serving(tmp_path) as opened:
        browser = opened()
        await browser.log_in(token=token)
        session = browser.client.cookies[sessions.COOKIE]
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("bot.db*"))
    assert stored
    assert session.encode() not in stored
    assert token.rpartition(".")[2].encode() not in stored


CHANGES = {
    "session": {"token": "x"},
    "session/end": {},
    "messages": {"text": "hi", "conversation": "c1", "id": "1"},
    "conversations/rename": {"conversation": "c1", "title": "t"},
    "conversations/forget": {"conversation": "c1"},
}


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://[x]", "Host": "[x]"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://bot.example.com"},
    ],
)
async def test_request_of_another_site_is_refused(
    browser: Browser, path: str, headers: dict[str, str]
) -> None:
    await browser.log_in()
    assert (await browser.post(path, CHANGES[path], headers)).status_code == 403
    assert "composer" in await browser.page()


@pytest.mark.parametrize("path", CHANGES)
async def test_request_that_a_form_can_send_is_refused(browser: Browser, path: str) -> None:
    await browser.log_in()
    body, headers = json.dumps(CHANGES[path]), PAGE | {"Content-Type": "text/plain"}
    response = await browser.client.post(f"/console/{path}", content=body, headers=headers)
    assert response.status_code == 403


async def test_browser_without_fetch_metadata_is_known_by_its_origin(browser: Browser) -> None:
    headers = {"Origin": "https://bot.example.com:8443", "Host": "bot.example.com"}
    assert (await browser.post("session", {"token": link_token()}, headers)).status_code == 204


@pytest.mark.parametrize("path", ["messages", "conversations/rename", "conversations/forget"])
async def test_change_without_session_is_refused(browser: Browser, path: str) -> None:
    response = await browser.post(path, CHANGES[path])
    assert (response.status_code, response.json()) == (401, {"message": "You are not logged in"})


async def test_answer_is_streamed_as_html(tmp_path: Path) -> None:
    async with serving(tmp_path, Model("# A", "# A\n\nfirst", "# A\n\nfirst **second**")) as opened:
        browser = opened()
        await browser.log_in()
        stream = await browser.ask("hello")
    assert stream[0] == ("part", {"from": 0, "html": "<h3>A</h3>"})
    assert ("part", {"from": 1, "html": "<p>first <strong>second</strong></p>"}) in stream
    assert stream[-1] == ("done", {"from": 2, "html": ""})
    assert shown(stream) == "<h3>A</h3><p>first <strong>second</strong></p>"


async def test_second_attempt_replaces_what_was_shown(tmp_path: Path) -> None:
    async with serving(tmp_path, Model("Paris\n\nis", "Lon", "London")) as opened:
        browser = opened()
        await browser.log_in()
        assert shown(await browser.ask("hello")) == "<p>London</p>"


async def test_repeated_question_gets_the_same_answer(tmp_path: Path) -> None:
    model = Model("a **b**")
    async with serving(tmp_path, model) as opened:
        browser = opened()
        await browser.log_in()
        first, again = await browser.ask("hello", id="7"), await browser.ask("hello", id="7")
    assert shown(first) == shown(again) == "<p>a <strong>b</strong></p>"
    assert len(model.asked) == 1


async def test_conversations_are_listed_and_shown_again(browser: Browser) -> None:
    await browser.log_in()
    await browser.ask("first question", "c1")
    await browser.ask("another", "c2")
    await browser.ask("more", "c1")
    page = await browser.page("?c=c1")
    assert links(page) == [("/console/?c=c1", "first question"), ("/console/?c=c2", "another")]
    assert turns(page) == ["Youfirst question", "Assistantanswer", "Youmore", "Assistantanswer"]
    assert 'href="/console/?c=c1" aria-current="page"' in page


async def test_conversations_of_others_are_not_shown(tmp_path: Path) -> None:
    async with serving(tmp_path) as opened:
        ada, bob = opened(), opened()
        await ada.log_in("ada")
        await bob.log_in("bob")
        await ada.ask("secret plan", "c1")
        page = await bob.page("?c=c1")
        assert links(page) == []
        assert "secret" not in page
        assert (await bob.post("conversations/forget", {"conversation": "c1"})).status_code == 204
        assert turns(await ada.page("?c=c1")) == ["Yousecret plan", "Assistantanswer"]


async def test_open_question_is_shown_and_can_be_waited_for(tmp_path: Path) -> None:
    model = Model("late")
    async with serving(tmp_path, model) as opened:
        browser = opened()
        await browser.log_in()
        model.gate.clear()
        first = asyncio.create_task(browser.ask("slow?", "c1", "7"))
        while not model.asked:
            await asyncio.sleep(0.01)
        page = await browser.page("?c=c1")
        assert links(page) == [("/console/?c=c1", "slow?")]
        assert turns(page) == ["Youslow?"]
        (waiting,) = re.findall(r'data-open="([^"]*)"', page)
        assert json.loads(unescape(waiting)) == [{"id": "7", "text": "slow?"}]
        refused = await browser.post("conversations/forget", {"conversation": "c1"})
        assert (refused.status_code, "still answering" in refused.text) == (409, True)
        second = asyncio.create_task(browser.ask("slow?", "c1", "7"))
        model.gate.set()
        assert shown(await first) == shown(await second) == "<p>late</p>"
        assert 'data-open="[]"' in await browser.page("?c=c1")


async def test_conversation_is_renamed(browser: Browser) -> None:
    await browser.log_in()
    await browser.ask("first question", "c1")
    response = await browser.post("conversations/rename", {"conversation": "c1", "title": " <b>  plan "})
    assert response.status_code == 204
    page = await browser.page("?c=c1")
    assert links(page) == [("/console/?c=c1", "<b> plan")]
    assert "<b> plan" not in page
    assert "<title>&lt;b&gt; plan" in page


async def test_conversation_that_does_not_exist_is_not_renamed(browser: Browser) -> None:
    await browser.log_in()
    response = await browser.post("conversations/rename", {"conversation": "c1", "title": "t"})
    assert response.status_code == 404


async def test_deleted_conversation_leaves_no_text(tmp_path: Path) -> None:
    async with serving(tmp_path, Model("the bluebird answer")) as opened:
        browser = opened()
        await browser.log_in()
        await browser.ask("the bluebird question", "c1", "7")
        await browser.post("conversations/rename", {"conversation": "c1", "title": "bluebird title"})
        assert (await browser.post("conversations/forget", {"conversation": "c1"})).status_code == 204
        assert links(await browser.page("?c=c1")) == []
        assert turns(await browser.page("?c=c1")) == []


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$title ${title} $$"]
)
async def test_text_of_people_and_models_is_never_html(tmp_path: Path, text: str) -> None:
    async with serving(tmp_path, Model(text)) as opened:
        browser = opened()
        await browser.log_in(text)
        await browser.ask(text, text)
        page = await browser.page("?" + str(httpx.QueryParams({"c": text})))
    assert len(turns(page)) == 2
    assert turns(page)[0] == f"You{text}"
    assert re.findall(r"<(script|img)\b[^>]*", page) == ["script"]
    assert "onerror=alert(1)>" not in page


async def test_earlier_answers_are_shown_as_the_policy_allows_now(tmp_path: Path) -> None:
    class Masking:
        def value(self, value: Any) -> Any:
            return value.replace("secret", "*****")

    async with serving(tmp_path, Model("the secret"), outbound=Masking()) as opened:
        browser = opened()
        await browser.log_in()
        assert shown(await browser.ask("hello")) == "<p>the *****</p>"
        assert turns(await browser.page("?c=c1")) == ["Youhello", "Assistantthe *****"]


async def test_long_conversation_is_shown_in_part_at_first(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "SHOWN_TURNS", 2)
    await browser.log_in()
    await browser.ask("first", "c1")
    await browser.ask("second", "c1")
    page = await browser.page("?c=c1")
    assert turns(page) == ["Yousecond", "Assistantanswer"]
    (earlier,) = re.findall(r'<p class="earlier"><a href="/console/([^"]*)"', page)
    assert len(turns(await browser.page(unescape(earlier)))) == 4


async def test_page_is_in_the_language_of_the_browser(tmp_path: Path) -> None:
    async with serving(tmp_path) as opened:
        chinese = opened("zh-CN,zh;q=0.9,en;q=0.8")
        page = await chinese.page()
        assert '<html lang="zh-CN">' in page
        assert "您尚未登录" in page
        await chinese.log_in()
        assert "有什么可以帮您？" in await chinese.page()
        assert '<html lang="en">' in await opened("fr, en;q=0.5").page()


async def test_notice_of_the_bot_is_in_the_language_of_the_browser(tmp_path: Path) -> None:
    async with serving(tmp_path) as opened:
        browser = opened("zh-CN")
        await browser.log_in()
        assert "好的，已清除之前的对话" in shown(await browser.ask("/new"))


async def test_user_over_the_rate_limit_is_informed(tmp_path: Path) -> None:
    async with serving(tmp_path, limit=1) as opened:
        browser = opened()
        await browser.log_in()
        await browser.ask("one")
        assert "too quickly" in shown(await browser.ask("two"))
        (last,) = await browser.ask("three")
        assert last == ("error", {"message": "You are sending messages too quickly. Please wait a minute."})


@pytest.mark.parametrize(
    "body",
    [{"text": "x" * 32_001, "conversation": "c", "id": "1"}, {"text": ""}, {"text": 7}, [], {"x": "y"}],
)
async def test_invalid_question_is_refused(browser: Browser, body: Any) -> None:
    await browser.log_in()
    response = await browser.post("messages", body)
    assert response.status_code == 422
    assert response.json()["message"]


async def test_page_forbids_everything_that_is_not_its_own(browser: Browser) -> None:
    headers = (await browser.client.get("/console/")).headers
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
    assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


async def test_page_needs_no_other_host_and_no_inline_code(browser: Browser) -> None:
    await browser.log_in()
    await browser.ask("hello")
    found = await browser.page("?c=c1")
    for name in ("page.css", "page.js", "icon.svg"):
        found += (await browser.client.get(f"/console/assets/{name}")).text
    assert re.findall(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z0-9.-]+\.[a-z]+", found) == []
    assert re.findall(r"\sstyle=|\son[a-z]+=|@import|javascript:|<script(?! src)", found) == []


async def test_assets_are_cached_by_their_content(browser: Browser) -> None:
    page = await browser.page()
    (address,) = re.findall(r'<script src="([^"]*)"', page)
    response = await browser.client.get(address)
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["content-type"] == "text/javascript; charset=utf-8"
    other = await browser.client.get("/console/assets/page.js?v=of-another-release")
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-store")
    assert other.content == response.content


@pytest.mark.parametrize("name", ["chat.html", "..%2fpage.css", "__init__.py", "nothing"])
async def test_other_files_are_not_served(browser: Browser, name: str) -> None:
    assert (await browser.client.get(f"/console/assets/{name}")).status_code == 404


async def test_console_without_page_has_only_its_api(tmp_path: Path) -> None:
    async with serving(tmp_path, page=False) as opened:
        browser = opened()
        assert (await browser.client.get("/console/")).status_code == 404
        assert (await browser.log_in()).status_code == 404
