"""Access as people meet it: messages through the real chain, with a clock that the tests set."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from clawd_runtime.bot.access import pairing
from clawd_runtime.bot.access.current import CurrentAccess
from clawd_runtime.bot.models.attempt import AnswerSource, AnswerTokens, ModelAnswer
from clawd_runtime.bot.text.messages import EN, ZH
from tests.bot.scripted import Chain, ScriptedChannel, message, running

USERS = {"scripted:1": "owner", "scripted:2": "admin", "scripted:3": "member"}
ROLES = {"owner": "1", "admin": "2", "member": "3", "stranger": "9"}


class Scene:
    """A running bot with a table of access, and a clock."""

    def __init__(self, folder: Path, table: Mapping[str, Any]) -> None:
        self.file = folder / "access.json"
        self.declare(table)
        self.now = 1_800_000_000.0
        self.channel = ScriptedChannel()
        self.tokens = AnswerTokens(60, 40, counted=True)
        self.number = 0
        self.chain = Chain(
            folder,
            self.channel,
            answer=lambda history, question: ModelAnswer(
                f"re: {question}", source=AnswerSource("default"), tokens=self.tokens
            ),
            clock=lambda: self.now,
            language="auto",
            access=CurrentAccess(self.file),
        )

    def declare(self, table: Mapping[str, Any]) -> None:
        self.file.write_text(json.dumps(table))

    async def say(self, user: str, text: str, **changes: Any) -> str:
        """Return the bot's answers to a message, joined; empty for none."""
        self.number += 1
        before = len(self.channel.sent)
        event = f"e{self.number}"
        given: dict[str, Any] = {"chat": f"chat-{user}", "received_at": self.now, "language": "en"}
        await self.chain.store.store(message(event, text, user=user, **(given | changes)))
        await self.chain.settled()
        return "\n".join(reply.text for reply in self.channel.sent[before:])

    async def code_of(self, user: str) -> str:
        found = re.search(r"[A-Z2-9]{4}-[A-Z2-9]{4}", await self.say(user, "hello"))
        assert found is not None
        return found[0]


@asynccontextmanager
async def scene(folder: Path, **table: Any) -> AsyncIterator[Scene]:
    made = Scene(folder, {"channels": {"scripted": "pairing"}, "users": USERS} | table)
    async with running(made.chain):
        yield made


COMMANDS = ("/new", "/help", "/usage", "/approve", "/revoke", "hello")
ADMINS = frozenset({"/approve", "/revoke"})


async def test_matrix_of_roles_commands_and_chats(tmp_path: Path) -> None:
    async with scene(tmp_path) as bot:
        for (role, user), command, kind in product(ROLES.items(), COMMANDS, ("private", "group")):
            answer = await bot.say(user, command, chat_kind=kind, chat=f"{kind}-{user}")
            refused = EN.not_permitted.format(command=command)
            bot.now += pairing.WINDOW
            if role == "stranger":
                assert "get access" in answer if kind == "private" else not answer
            else:
                assert (answer == refused) is (role == "member" and command in ADMINS)
                assert answer


async def test_stranger_is_admitted_by_code_and_told_so(tmp_path: Path) -> None:
    async with scene(tmp_path) as bot:
        code = await bot.code_of("9")
        answer = await bot.say("2", f"/approve {code.lower()}")
        assert answer == f"{EN.approved.format(id='scripted:9')}\n{EN.access_granted}"
        assert bot.channel.sent[-1].conversation.chat == "chat-9"
        assert await bot.say("9", "hello") == "re: hello"
        assert await bot.say("2", f"/approve {code}") == EN.wrong_code, "a code is used once"


@pytest.mark.parametrize("space", ["\n", "\u3000", " \t\n"])
async def test_argument_of_command_follows_any_space(tmp_path: Path, space: str) -> None:
    async with scene(tmp_path) as bot:
        code = await bot.code_of("9")
        answer = await bot.say("2", f"/approve{space}{code}")
        assert answer.startswith(EN.approved.format(id="scripted:9"))
        assert await bot.say("2", f"/revoke{space}scripted:9") == EN.revoked.format(id="scripted:9")


async def test_grant_is_announced_in_the_language_of_the_request(tmp_path: Path) -> None:
    async with scene(tmp_path) as bot:
        found = re.search(r"[A-Z2-9]{4}-[A-Z2-9]{4}", await bot.say("9", "你好"))
        assert found is not None
        assert (await bot.say("2", f"/approve {found[0]}")).endswith(ZH.access_granted)


async def test_code_that_expired_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path) as bot:
        code = await bot.code_of("9")
        bot.now += pairing.LIFETIME
        assert await bot.say("2", f"/approve {code}") == EN.wrong_code
        assert "code" in await bot.say("9", "hello")


async def test_wrong_and_malformed_codes_get_the_same_answer_and_are_limited(tmp_path: Path) -> None:
    async with scene(tmp_path) as bot:
        code = await bot.code_of("9")
        wrong = ["ZZZZ-ZZZZ", "nonsense", "2222-2222", "%", "9" * 40]
        assert len(wrong) == pairing.MOST_GUESSES
        assert {await bot.say("2", f"/approve {guess}") for guess in wrong} == {EN.wrong_code}
        assert await bot.say("2", f"/approve {code}") == EN.too_many_codes
        assert EN.approved.format(id="scripted:9") in await bot.say("1", f"/approve {code}"), "another admin"


async def test_granted_access_is_revoked(tmp_path: Path) -> None:
    async with scene(tmp_path) as bot:
        await bot.say("2", f"/approve {await bot.code_of('9')}")
        assert await bot.say("2", "/revoke scripted:9") == EN.revoked.format(id="scripted:9")
        bot.now += pairing.WINDOW
        assert "code" in await bot.say("9", "hello")
        assert await bot.say("2", "/revoke scripted:3") == EN.nothing_granted.format(id="scripted:3")
        assert await bot.say("2", "/revoke") == EN.revoke_usage


async def test_strangers_cannot_fill_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "MOST_PENDING", 3)
    async with scene(tmp_path) as bot:
        answers = [await bot.say(f"9{n}", "hello") for n in range(5)]
        assert [bool(answer) for answer in answers] == [True, True, True, False, False]
        bot.now += pairing.LIFETIME
        assert await bot.say("95", "hello")


async def test_stranger_over_rate_limit_gets_no_answer(tmp_path: Path) -> None:
    async with scene(tmp_path) as bot:
        bot.chain.store._limit = 2
        answers = [await bot.say("9", "hello") for _ in range(4)]
        assert [bool(answer) for answer in answers] == [True, False, False, False]


@pytest.mark.parametrize(("opening", "answer"), [("closed", EN.denied), ("open", "re: hello")])
async def test_channel_that_is_closed_or_open(tmp_path: Path, opening: str, answer: str) -> None:
    async with scene(tmp_path, channels={"scripted": opening}) as bot:
        assert await bot.say("9", "hello") == answer


async def test_person_of_another_organisation_is_denied(tmp_path: Path) -> None:
    async with scene(tmp_path, channels={"scripted": "tenant"}) as bot:
        assert await bot.say("9", "hello") == "re: hello"
        assert await bot.say("8", "hello", outside=True) == EN.denied


async def test_table_changes_while_bot_runs_and_mistake_keeps_the_last_one(tmp_path: Path) -> None:
    async with scene(tmp_path) as bot:
        bot.declare({"channels": {"scripted": "closed"}})
        await bot.chain.access.reload_if_changed()
        assert await bot.say("1", "hello") == EN.denied
        bot.file.write_text("{")
        await bot.chain.access.reload_if_changed()
        assert await bot.say("1", "hello") == EN.denied
        bot.declare({"channels": {}, "users": {"scripted:1": "member"}})
        await bot.chain.access.reload_if_changed()
        assert await bot.say("1", "hello") == "re: hello"


async def test_right_to_command_can_be_taken_from_members(tmp_path: Path) -> None:
    async with scene(tmp_path, commands={"new": "owner"}) as bot:
        assert await bot.say("3", "/new") == EN.not_permitted.format(command="/new")
        assert await bot.say("1", "/new") == EN.new_conversation
        assert await bot.say("3", "hello") == "re: hello"


async def test_quota_warns_then_refuses_until_the_next_day(tmp_path: Path) -> None:
    quotas = {"user": {"tokens_per_day": 300, "warn_percent": 50}}
    async with scene(tmp_path, quotas=quotas, time_zone="Asia/Shanghai") as bot:
        answers = [await bot.say("3", "hello") for _ in range(4)]
        assert answers == [
            "re: hello",
            "re: hello",
            f"re: hello\n\n{EN.quota_near_user.format(percent=66)}",
            EN.quota_exhausted_user,
        ]
        assert await bot.say("3", "/help") == EN.help
        assert await bot.say("3", "/usage") == EN.usage_limited.format(used=300, limit=300)
        assert await bot.say("2", "hello") == "re: hello", "others have quotas of their own"
        bot.now += 8 * 3600 - 1  # it was 16:00 in Shanghai
        assert await bot.say("3", "hello") == EN.quota_exhausted_user
        bot.now += 1
        assert await bot.say("3", "hello") == "re: hello"


async def test_quota_of_one_person_replaces_the_general_one(tmp_path: Path) -> None:
    quotas = {
        "user": {"tokens_per_day": 100},
        "users": {"scripted:2": {"tokens_per_day": 1000}},
    }
    async with scene(tmp_path, quotas=quotas) as bot:
        await bot.say("3", "hello")
        await bot.say("2", "hello")
        assert await bot.say("3", "hello") == EN.quota_exhausted_user
        assert await bot.say("2", "hello") == "re: hello"


async def test_group_has_a_quota_of_its_own(tmp_path: Path) -> None:
    quotas = {"group": {"tokens_per_day": 200, "warn_percent": 100}}
    async with scene(tmp_path, quotas=quotas) as bot:
        group = {"chat": "g", "chat_kind": "group"}
        assert await bot.say("1", "hello", **group) == "re: hello"
        assert await bot.say("2", "hello", **group) == "re: hello"
        assert await bot.say("3", "hello", **group) == EN.quota_exhausted_group
        assert await bot.say("3", "hello") == "re: hello"
        assert EN.usage_group.format(used=200, limit=200) in await bot.say("3", "/usage", **group)


async def test_usage_without_limit_and_without_table(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel)) as chain:
        await chain.store.store(message("1", "/usage"))
        await chain.settled()
    assert channel.texts == [EN.usage_unlimited.format(used=0)]


async def test_tokens_are_counted_by_channel_and_model_only(tmp_path: Path) -> None:
    async with scene(tmp_path) as bot:
        for user in ("1", "2"):
            await bot.say(user, "hello")
        assert bot.chain.count("clawd_tokens_total", model="default", kind="prompt") == 120
        assert bot.chain.count("clawd_tokens_total", model="default", kind="answer") == 80
        labels = {
            tuple(sorted(sample.labels))
            for metric in bot.chain.metrics.registry.collect()
            if metric.name == "clawd_tokens"
            for sample in metric.samples
        }
        assert labels == {("channel", "kind", "model")}
