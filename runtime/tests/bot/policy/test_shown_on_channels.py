"""What platforms receive of an answer with a forbidden word while it grows: drafts, edits, cards, replies."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from clawd_runtime.bot.channels.base import AnswerProgress, Channel, ChannelContext
from clawd_runtime.bot.channels.feishu import channel as feishu
from clawd_runtime.bot.channels.telegram import channel as telegram
from clawd_runtime.bot.channels.telegram import progress as drafts
from clawd_runtime.bot.credentials import Credentials
from clawd_runtime.bot.handling import streaming
from clawd_runtime.bot.models.attempt import ModelAnswer
from clawd_runtime.bot.policy.current import CurrentPolicy
from clawd_runtime.bot.policy.outbound import OutboundCheck
from clawd_runtime.bot.values import ConversationKey, Inbound
from tests.bot.channels.fakes import MemoryInbox
from tests.bot.scripted import Chain, running

WORDS = {"words": [{"name": "w", "words": ["法轮功", "porn"], "pinyin": True}]}
SECRETS = {
    "telegram-token": "1000:abcdefghijklmnopqrstuvwxyz",
    "telegram-secret-token": "a-secret_token",
    "feishu-app-secret": "app-secret-of-feishu",
    "feishu-encrypt-key": "encrypt-key-of-feishu",
    "feishu-verification-token": "verification-token",
}
BEFORE, AFTER = "今天天气很好。", "，明天见！"
VARIANTS = (
    "法轮功",
    "法輪功",
    "法**輪**功",
    "法 轮\u200b功",
    "法[轮](https://example.org/)功",
    "&#27861;轮功",
    " ｐоｒn ",
)
PLACES = (
    ("telegram", "private", "4711"),
    ("telegram", "group", "-100"),
    ("feishu", "private", "oc_1"),
    ("feishu", "group", "oc_1"),
)


class Platform:
    """Accepts all requests, and keeps their texts."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    def has_shown(self, text: str) -> bool:
        """Return whether a request contained the text."""
        return any(text in body for body in self.bodies)

    async def until_shown(self, text: str) -> None:
        """Wait for a request that contains the text."""
        while not self.has_shown(text):
            await asyncio.sleep(0.004)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/tenant_access_token/internal"):
            return httpx.Response(200, json={"code": 0, "tenant_access_token": "t-1", "expire": 7200})
        self.bodies.append(_unwrapped(request.content.decode()))
        data = {"message_id": "om_1", "card_id": "1", "reaction_id": "r1", "chat_id": "oc_1"}
        return httpx.Response(200, json={"ok": True, "result": {"message_id": 5}, "code": 0, "data": data})


def _unwrapped(text: str) -> str:
    """Return JSON, and JSON within its texts, without escapes."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, dict):
        return " ".join(f"{key}={_unwrapped(json.dumps(part))}" for key, part in value.items())
    if isinstance(value, list):
        return " ".join(_unwrapped(json.dumps(part)) for part in value)
    return _unwrapped(value) if isinstance(value, str) and value[:1] in ("{", "[") else str(value)


class Growing:
    """Gives one answer character by character, and waits until the platform has shown its beginning."""

    def __init__(self, answer: str, platform: Platform) -> None:
        self._answer, self._platform = answer, platform

    async def answer(self, history: Any, question: str, progress: AnswerProgress) -> ModelAnswer:
        for length in range(1, len(self._answer) + 1):
            progress.show(self._answer[:length])
            await asyncio.sleep(0.004)
            if length == len(BEFORE):
                await asyncio.wait_for(self._platform.until_shown(BEFORE[:3]), 20)
        return ModelAnswer(self._answer)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "OPEN_AFTER", 0.0)
    monkeypatch.setattr(telegram, "PRIVATE_EDITS_EVERY", 0.0)
    monkeypatch.setattr(telegram, "GROUP_EDITS_EVERY", 0.0)
    monkeypatch.setattr(drafts, "DRAFT_EVERY", 0.0)
    monkeypatch.setattr(feishu, "PIECES_EVERY", 0.0)


def made(name: str, platform: Platform, policy: CurrentPolicy) -> Channel:
    context = ChannelContext(
        MemoryInbox(),
        platform.http,
        Credentials(SECRETS),
        "https://bot.example.org",
        outbound=OutboundCheck(policy),
    )
    if name == "telegram":
        return telegram.TelegramChannel(
            telegram.TelegramSettings(api_base="https://api.example.org"), context
        )
    settings = feishu.FeishuSettings(app_id="cli_1", api_base="https://open.example.org")
    return feishu.FeishuChannel(settings, context)


def shows(body: str, variant: str) -> bool:
    """Return whether the variant or the word itself can be read in `body`, with anything between letters."""
    letters = "".join(filter(str.isalnum, body))
    return "".join(filter(str.isalnum, variant)) in letters or "法轮功" in letters


async def bodies(folder: Path, place: tuple[str, Any, str], answer: str, rules: dict[str, Any]) -> list[str]:
    """Return the requests that a channel makes while this answer grows, and when it is complete."""
    file = folder / "policy.json"
    file.write_text(json.dumps(rules))
    name, kind, chat = place
    policy, platform = CurrentPolicy(file, SECRETS), Platform()
    chain = Chain(
        folder, made(name, platform, policy), answerer=Growing(answer, platform), policy=policy, language="zh"
    )
    asked = Inbound("1000:1", "m1", ConversationKey(name, chat), kind, "u1", "问", True, "7", time.time())
    async with running(chain):
        await chain.store.store(asked)
        await chain.settled()
    return platform.bodies


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("place", PLACES, ids=" ".join)
async def test_no_request_to_a_platform_shows_the_word(
    tmp_path: Path, place: tuple[str, Any, str], variant: str
) -> None:
    made_requests = await bodies(tmp_path, place, BEFORE + variant + AFTER, WORDS)
    assert any(BEFORE[:3] in body for body in made_requests), "nothing was shown while the answer grew"
    assert [body for body in made_requests if shows(body, variant)] == []


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("place", [PLACES[0], PLACES[3]], ids=" ".join)
async def test_without_a_policy_the_same_requests_show_it(
    tmp_path: Path, place: tuple[str, Any, str], variant: str
) -> None:
    made_requests = await bodies(tmp_path, place, BEFORE + variant + AFTER, {})
    assert [body for body in made_requests if shows(body, variant)] != []
