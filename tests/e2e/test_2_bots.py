"""People write to the bot through the platforms and get the model's answer; forgers get none."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.world import World
from tests.standins.control import Control

QUESTION = "What is the capital of France?"
SECONDS = 90.0
FORGERIES = [
    *("signature", "unsigned", "stale", "token", "padding"),
    *("ciphertext", "ciphertext signed", "plain", "plain signed"),
]


def test_telegram_delivers_and_the_model_answers(deployed: World, telegram: Control) -> None:
    telegram.post("messages", text=QUESTION, chat={"id": 501})
    answers = telegram.eventually(lambda: telegram.get("sent", chat_id="501"), SECONDS)
    assert "Paris" in answers[-1]["text"]


def test_feishu_delivers_and_the_model_answers(deployed: World, feishu: Control) -> None:
    feishu.post("webhook", url=f"https://{deployed.address('bot1')}/feishu/webhook")
    sent = feishu.post("messages", text=QUESTION, user="ou_anna")
    asked = sent["message"]["message_id"]
    answers = feishu.eventually(lambda: feishu.get("sent", parent_id=asked), SECONDS)
    assert "Paris" in str(answers[-1])


def test_the_console_answers_on_both_hosts(deployed: World) -> None:
    for host in deployed.hosts:
        deployed.inventory(f"only-{host}", hosts=(host,))
        done = deployed.run("chat", "-i", f"only-{host}", "--message", QUESTION)
        assert done.returncode == 0, done.stderr
        assert "Paris" in done.stdout


def test_one_conversation_is_remembered_and_new_forgets(deployed: World, telegram: Control) -> None:
    for text, expected in (("/new", ""), (QUESTION, "Paris"), ("/help", "/new")):
        before = len(telegram.get("sent", chat_id="502"))
        telegram.post("messages", text=text, chat={"id": 502})
        answers = telegram.eventually(lambda n=before: telegram.get("sent", chat_id="502")[n:], SECONDS)
        assert expected in answers[-1]["text"]


def test_a_wrong_secret_token_gets_nothing(deployed: World, telegram: Control) -> None:
    for wrong in ("", "x" * 32):
        told = telegram.post("forge", message={"text": QUESTION, "chat": {"id": 503}}, secret_token=wrong)
        assert told["status"] in {401, 403}
    assert stays_empty(lambda: telegram.get("sent", chat_id="503"))


def test_a_repeated_telegram_update_is_answered_once(deployed: World, telegram: Control) -> None:
    told = telegram.post("messages", text=QUESTION, chat={"id": 504})
    telegram.eventually(lambda: telegram.get("sent", chat_id="504"), SECONDS)
    for _ in range(3):
        again = telegram.post("redeliver", update_id=told["update_id"], message=told["message"])
        assert again["status"] == 200
    assert stays_empty(lambda: telegram.get("sent", chat_id="504")[1:])


@pytest.mark.parametrize("kind", FORGERIES)
def test_forged_feishu_events_get_nothing(deployed: World, feishu: Control, kind: str) -> None:
    before = len(feishu.get("sent"))
    told = feishu.post("forge", kind=kind, message={"text": QUESTION, "user": "ou_mallory"})
    assert told["status"] in {400, 401, 403}, told
    assert stays_empty(lambda: feishu.get("sent")[before:], seconds=2)


def test_a_replayed_feishu_event_is_answered_once(deployed: World, feishu: Control) -> None:
    told = feishu.post("messages", text=QUESTION, user="ou_bo")
    asked = told["message"]["message_id"]
    feishu.eventually(lambda: feishu.get("sent", parent_id=asked), SECONDS)
    feishu.post("redeliver", event_id=told["event_id"])
    feishu.post("redeliver", event_id=told["event_id"], new_event_id=True)
    assert stays_empty(lambda: feishu.get("sent", parent_id=asked)[1:])


def test_a_bot_killed_in_the_middle_answers_once_all_the_same(deployed: World, telegram: Control) -> None:
    host = "bot2" if deployed.address("bot2") in str(telegram.get("calls")[-50:]) else "bot1"
    telegram.post("messages", text="Tell me about the city of Paris.", chat={"id": 505})
    time.sleep(0.3)
    for name in deployed.hosts:
        deployed.on(name, "systemctl kill --signal=KILL clawd-bot")
    telegram.eventually(lambda: telegram.get("sent", chat_id="505"), SECONDS)
    assert stays_empty(lambda: telegram.get("sent", chat_id="505")[1:], seconds=5), host


def stays_empty(look: Any, seconds: float = 4.0) -> bool:
    """Whether `look` finds nothing for a while."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if look():
            return False
        time.sleep(0.2)
    return True
