"""Repeated kills of the program: no message is lost or answered twice."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections import Counter, defaultdict
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from clawd_runtime.bot.text.messages import EN
from tests.bot.program import Program, model_server
from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.state import Credentials
from tests.standins.serve import serving
from tests.standins.telegram.app import TelegramStandin

pytestmark = pytest.mark.slow

KILLS = 8
TOKEN = "1000:abcdefghijklmnopqrstuvwxyz"
APP = Credentials()
CHATS = (11, 12, 13)
NOTE_OF_DOUBT = f"\n\n{EN.earlier_in_doubt}"


class Scene:
    """Users write numbered messages on both platforms."""

    def __init__(self, telegram: Control, feishu: Control) -> None:
        self.telegram = telegram
        self.feishu = feishu
        self.asked: dict[str, list[str]] = defaultdict(list)
        self.events: list[str] = []
        self.texts: dict[str, str] = {}
        for chat in CHATS:
            telegram.post("chats", id=chat)
        telegram.post("limits", chat=[10_000, 1.0], all=[10_000, 1.0])
        feishu.post("limits", receiver=[10_000, 1.0], second=[10_000, 1.0], minute=[10_000, 60.0])
        # Every call takes a while, and some responses are lost, so that kills interrupt sends.
        telegram.post("faults", match="sendMessage", times=10_000, delay=0.03)
        for _ in range(6):
            feishu.post("faults", match="/reply", times=5, delay=0.03)
            feishu.post("faults", match="/reply", drop="after")
        feishu.post("faults", match="/reply", times=10_000, delay=0.03)

    def write(self) -> None:
        for chat in CHATS:
            for platform in ("telegram", "feishu"):
                lane = f"{platform}-{chat}"
                text = f"{lane}-{len(self.asked[lane])}"
                self.asked[lane].append(text)
                if platform == "telegram":
                    given = self.telegram.post("messages", text=text, chat={"id": chat})
                else:
                    given = self.feishu.post("messages", text=text, user=f"ou_{chat}")
                    self.events.append(given["event_id"])
                self.texts[str(given["message"]["message_id"])] = text

    def redeliver_everything(self) -> None:
        for event in self.events:
            self.feishu.post("redeliver", event_id=event)

    def answers(self, platform: str) -> list[str]:
        if platform == "telegram":
            texts = [message["text"] for message in self.telegram.get("sent")]
        else:
            cards = {card["message_id"]: unescape(card["text"]) for card in self.feishu.get("cards")}
            visible = [message for message in self.feishu.get("sent") if not message["deleted"]]
            texts = [cards.get(message["message_id"]) or _text(message) for message in visible]
        return [question for text in texts for question in _questions(text)]


def _text(message: dict[str, Any]) -> str:
    text: str = json.loads(message["body"]["content"])["text"]
    return text


@pytest.mark.timeout(180)
def test_kills_at_any_instant_lose_no_message(tmp_path: Path) -> None:
    credentials = {
        "telegram-token": TOKEN,
        "feishu-app-secret": APP.app_secret,
        "feishu-encrypt-key": APP.encrypt_key,
        "feishu-verification-token": APP.verification_token,
    }
    with (
        serving(TelegramStandin([TOKEN]).app) as telegram_url,
        serving(FeishuStandin(APP, pace=0.02).app) as feishu_url,
        serving(model_server(pause=0.02)) as model_url,
        Control(telegram_url) as telegram,
        Control(feishu_url) as feishu,
        Program(
            tmp_path,
            model_url,
            {
                "telegram": {"mode": "polling", "api_base": telegram_url},
                "feishu": {"app_id": APP.app_id, "api_base": feishu_url},
            },
            credentials,
        ) as program,
    ):
        scene = Scene(telegram, feishu)
        program.start()
        program.wait_alive()
        feishu.post("webhook", url=f"{program.url}/feishu/webhook")
        chance = random.Random(7)
        for number in range(KILLS):
            scene.write()
            before = _handled(program.database)
            time.sleep(chance.uniform(0.0, 0.25))
            if number % 2:
                # On a busy machine too, or the bot is killed so often that it gives up all questions.
                feishu.eventually(partial(_has_handled, program.database, before + 1), 30.0)
            program.kill()
            program.start()
            program.wait_alive()
        scene.redeliver_everything()
        count = sum(len(texts) for texts in scene.asked.values())
        feishu.eventually(lambda: _stored(program.database) == count, 30.0)
        # The response to one reply may be lost five times, with a growing delay.
        program.settle(100.0)
        assert program.terminate() == 0

        doubtful = _doubtful(program.database)
        # Killed three times during the same answer, the bot apologises.
        poison = _rows(program.database, "SELECT reply_to FROM inbox WHERE outcome = 'poison'")
        given_up = {scene.texts[reply_to] for (reply_to,) in poison}
        assert len(given_up) <= 2 * len(CHATS)
        answered = {platform: Counter(scene.answers(platform)) for platform in ("telegram", "feishu")}
        for lane, texts in scene.asked.items():
            platform = lane.partition("-")[0]
            for text in texts:
                times = answered[platform][text]
                if text in given_up:
                    assert times == 0, text
                elif platform == "telegram" and text in doubtful:
                    # It was being sent when the process died, and Telegram has no idempotency key.
                    assert times <= 1, text
                else:
                    assert times == 1, text
            if platform == "telegram":  # Feishu repeats an unacknowledged event later, after newer ones
                in_order = [text for text in scene.answers(platform) if text.startswith(f"{lane}-")]
                assert in_order == [text for text in texts if answered[platform][text]]
        assert all(text.startswith("telegram") for text in doubtful)
        assert len(doubtful) <= KILLS * len(CHATS)
        assert sum(answered["telegram"].values()) > len(CHATS) * KILLS // 2


def _questions(answer: str) -> list[str]:
    """Return the questions of an answer: quick ones are answered together."""
    return answer.removesuffix(NOTE_OF_DOUBT).removeprefix("re: ").splitlines()


def _stored(database: Path) -> int:
    return len(_rows(database, "SELECT 1 FROM inbox"))


def _has_handled(database: Path, count: int) -> bool:
    return _handled(database) >= count


def _handled(database: Path) -> int:
    return len(_rows(database, "SELECT 1 FROM inbox WHERE outcome IS NOT NULL"))


def _doubtful(database: Path) -> set[str]:
    rows = _rows(database, "SELECT text FROM outbox WHERE state = 'doubtful'")
    return {question for (text,) in rows for question in _questions(text)}


def _rows(database: Path, query: str) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()
