"""People write to the bot through the platforms and get the model's answer; forgers get none."""

from __future__ import annotations

import ssl
import time
from functools import partial
from typing import Any

import httpx
import pytest

from tests.e2e.deployment import World
from tests.standins.control import Control

QUESTION = "What is the capital of France?"
SECONDS = 90.0
TURNS = """python3 -c 'import sqlite3
tables = sqlite3.connect("/var/lib/clawd-bot/bot.db")
newest = "select generation from conversations where chat = 502"
found = f"select count(*) from turns where chat = 502 and generation = coalesce(({newest}), 0)"
print(tables.execute(found).fetchone()[0])'"""
FORGERIES = [
    *("signature", "unsigned", "stale", "token", "padding"),
    *("ciphertext", "ciphertext signed", "plain", "plain signed"),
]


def test_telegram_message_is_answered_by_the_model(deployed: World, telegram: Control) -> None:
    telegram.post("messages", text=QUESTION, chat={"id": 501})
    answers = telegram.eventually(lambda: telegram.get("sent", chat_id="501"), SECONDS)
    assert "Paris" in answers[-1]["text"]


def test_feishu_message_is_answered_by_the_model(deployed: World, feishu: Control) -> None:
    feishu.post("webhook", url=f"https://{deployed.address('bot1')}/feishu/webhook")
    sent = feishu.post("messages", text=QUESTION, user="ou_anna")
    asked = sent["message"]["message_id"]
    answers = feishu.eventually(lambda: feishu.get("sent", parent_id=asked), SECONDS)
    assert "Paris" in str(answers[-1])


def test_chat_is_answered_by_both_hosts(deployed: World) -> None:
    for host in deployed.hosts:
        deployed.inventory(f"only-{host}", hosts=(host,))
        done = deployed.run("chat", "-i", f"only-{host}", "--message", QUESTION)
        assert done.returncode == 0, done.stderr
        assert "Paris" in done.stdout


def test_link_opens_a_chat_in_the_browser_that_the_model_answers(deployed: World) -> None:
    deployed.inventory("only-bot1", hosts=("bot1",))
    printed = deployed.run("console", "link", "-i", "only-bot1", "--user", "ada")
    assert printed.returncode == 0, printed.stderr
    address, _, token = printed.stdout.strip().partition("#login=")
    assert address == f"https://{deployed.address('bot1')}/console/"
    authority = printed.stderr.rstrip().rpartition(" ")[2]
    headers = {"Sec-Fetch-Site": "same-origin"}
    with httpx.Client(
        verify=ssl.create_default_context(cafile=authority), headers=headers, timeout=SECONDS
    ) as browser:
        assert "composer" not in browser.get(address).text
        assert browser.post(f"{address}session", json={"token": token}).status_code == 204
        page = browser.get(address)
        assert "composer" in page.text
        assert page.headers.get_list("Content-Security-Policy")[0].startswith("default-src 'none'; script")
        question = {"text": QUESTION, "conversation": "e2e", "id": "1"}
        assert "Paris" in browser.post(f"{address}messages", json=question).text
        assert "Paris" in browser.get(address, params={"c": "e2e"}).text
        assert browser.post(f"{address}session", json={"token": token}).status_code == 401


def sent_after(telegram: Control, count: int) -> list[dict[str, Any]]:
    return list(telegram.get("sent", chat_id="502")[count:])


def test_conversation_is_remembered_until_new(deployed: World, telegram: Control) -> None:
    """Count the turns that the model is shown with the next question, on both hosts together."""

    def turns() -> int:
        return sum(int(deployed.on(host, TURNS).stdout) for host in deployed.hosts)

    def remembers(count: int) -> bool:
        return turns() == count

    for text, expected, remembered in (
        ("/new", "", 0),
        (QUESTION, "Paris", 2),
        (QUESTION, "Paris", 4),
        ("/help", "/new", 4),
        ("/new", "", 0),
        (QUESTION, "Paris", 2),
    ):
        before = len(telegram.get("sent", chat_id="502"))
        telegram.post("messages", text=text, chat={"id": 502})
        answers = telegram.eventually(partial(sent_after, telegram, before), SECONDS)
        assert expected in answers[-1]["text"]
        telegram.eventually(partial(remembers, remembered))


def test_telegram_update_with_wrong_secret_token_is_refused(deployed: World, telegram: Control) -> None:
    for wrong in ("", "x" * 32):
        answer = telegram.post("forge", message={"text": QUESTION, "chat": {"id": 503}}, secret_token=wrong)
        assert answer["status"] in {401, 403}
    assert stays_empty(lambda: telegram.get("sent", chat_id="503"))


def test_repeated_telegram_update_is_answered_once(deployed: World, telegram: Control) -> None:
    sent = telegram.post("messages", text=QUESTION, chat={"id": 504})
    telegram.eventually(lambda: telegram.get("sent", chat_id="504"), SECONDS)
    for _ in range(3):
        again = telegram.post("redeliver", update_id=sent["update_id"], message=sent["message"])
        assert again["status"] == 200
    assert stays_empty(lambda: telegram.get("sent", chat_id="504")[1:])


@pytest.mark.parametrize("kind", FORGERIES)
def test_forged_feishu_events_are_refused(deployed: World, feishu: Control, kind: str) -> None:
    before = len(feishu.get("sent"))
    answer = feishu.post("forge", kind=kind, message={"text": QUESTION, "user": "ou_mallory"})
    assert answer["status"] in {400, 401, 403}, answer
    assert stays_empty(lambda: feishu.get("sent")[before:], seconds=2)


def test_replayed_feishu_event_is_answered_once(deployed: World, feishu: Control) -> None:
    sent = feishu.post("messages", text=QUESTION, user="ou_bo")
    asked = sent["message"]["message_id"]
    feishu.eventually(lambda: feishu.get("sent", parent_id=asked), SECONDS)
    feishu.post("redeliver", event_id=sent["event_id"])
    feishu.post("redeliver", event_id=sent["event_id"], new_event_id=True)
    assert stays_empty(lambda: feishu.get("sent", parent_id=asked)[1:])


def test_bot_killed_while_answering_answers_once_after_restart(deployed: World, telegram: Control) -> None:
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
