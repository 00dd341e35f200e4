"""The bot with stand-ins of both platforms and people who write, on a host that may crash."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field, replace
from typing import Any, cast

import httpx
from sqlalchemy import select

from clawd_runtime.bot.access.current import CurrentAccess
from clawd_runtime.bot.access.gate import AccessGate
from clawd_runtime.bot.channels.base import AnswerProgress, Channel, ChannelContext
from clawd_runtime.bot.channels.feishu.channel import FeishuChannel, FeishuSettings
from clawd_runtime.bot.channels.telegram.channel import TelegramChannel, TelegramSettings
from clawd_runtime.bot.credentials import Credentials as Secrets
from clawd_runtime.bot.handling.deliverer import Deliverer
from clawd_runtime.bot.handling.pacing import Pacing
from clawd_runtime.bot.handling.router import Router
from clawd_runtime.bot.handling.worker import Worker
from clawd_runtime.bot.models.answering import Answerer
from clawd_runtime.bot.models.attempt import ModelAnswer
from clawd_runtime.bot.policy.current import CurrentPolicy
from clawd_runtime.bot.policy.enforcement import Enforcement
from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.store.backends.database import OpenDatabase
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.schema import inbox, outbox, streams, turns
from clawd_runtime.bot.store.store import Store
from clawd_runtime.bot.text.messages import EN
from clawd_runtime.bot.values import ConversationKey, Inbound
from tests.bot.scripted import ScriptedModels
from tests.bot.simulation.host import Chances, InlineDatabase, LossyTransport, Power, new_engine
from tests.bot.simulation.virtual_time import now
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.events import user_message
from tests.standins.feishu.state import Credentials
from tests.standins.telegram.app import TelegramStandin
from tests.standins.telegram.state import Chat

TOKEN = "1000:abcdefghijklmnopqrstuvwxyz"
APP = Credentials()
SECRETS = Secrets(
    {
        "telegram-token": TOKEN,
        "telegram-secret-token": "secret",
        "feishu-app-secret": APP.app_secret,
        "feishu-encrypt-key": APP.encrypt_key,
        "feishu-verification-token": APP.verification_token,
    }
)
SETTLED_WITHIN = 3 * 3600.0


@dataclass(frozen=True)
class Asked:
    """A question, and the text that its answer has everywhere."""

    channel: str
    event_id: str
    chat: str
    text: str
    reply_to: str
    answer: str


def answer_to(question: str) -> str:
    return f"re: {question} " + " ".join(f"word{number}" for number in range(20)) + " end"


class SlowAnswerer:
    """A model that writes its answer in pieces, over some seconds."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    async def answer(self, history: tuple[Turn, ...], question: str, progress: AnswerProgress) -> ModelAnswer:
        whole = answer_to(question)
        for end in range(20, len(whole), 20):
            await asyncio.sleep(self._chance.uniform(0.0, 1.5))
            progress.show(whole[:end])
        return ModelAnswer(whole)


@dataclass
class Platforms:
    """Both platforms, which survive every crash."""

    telegram: TelegramStandin = field(default_factory=lambda: TelegramStandin([TOKEN], clock=now))
    feishu: FeishuStandin = field(default_factory=lambda: FeishuStandin(APP, clock=now))

    @property
    def apps(self) -> dict[str, Any]:
        return {"telegram": self.telegram.app, "feishu": self.feishu.app}

    def write_on_telegram(self, chat_id: int, kind: str, text: str) -> Inbound:
        bot = self.telegram.bot
        chat = bot.chats.setdefault(chat_id, Chat(chat_id, type=kind, title="Team"))
        sent = bot.message(chat, {"id": 7, "is_bot": False, "first_name": "Ada"}, text)
        number = str(sent["message_id"])
        return _inbound("telegram", f"1000:{number}", number, (str(chat_id), kind, text), number)

    def write_on_feishu(self, user: str, text: str) -> Inbound:
        message = user_message(self.feishu.platform, {"user": user, "text": text})["message"]
        id = message["message_id"]
        return _inbound("feishu", f"e-{id}", id, (message["chat_id"], "private", text), id)


def _inbound(channel: str, event: str, id: str, said: tuple[str, str, str], reply_to: str) -> Inbound:
    chat, kind, text = said
    return Inbound(
        event_id=event,
        message_id=f"m-{id}",
        conversation=ConversationKey(channel, chat),
        chat_kind="private" if kind == "private" else "group",
        user=f"user of {chat}",
        text=text,
        addressed=True,
        reply_to=reply_to,
        received_at=now(),
    )


class Life:
    """The bot from a start to a crash."""

    def __init__(self, world: World, chances: Chances) -> None:
        self.power = Power(world.chance, chances)
        database = InlineDatabase(world.engine, self.power)
        self.store = Store(cast(OpenDatabase, database), now, limit=100_000)
        self._http = httpx.AsyncClient(transport=LossyTransport(world.platforms.apps, self.power))
        context = ChannelContext(self.store, self._http, SECRETS, "https://bot.example.com")
        self.channels: dict[str, Channel] = {
            "telegram": TelegramChannel(TelegramSettings(api_base="http://telegram"), context),
            "feishu": FeishuChannel(
                FeishuSettings(app_id=APP.app_id, api_base="http://feishu"), context, now
            ),
        }
        models = ScriptedModels(SlowAnswerer(world.chance), world.answers_at_once)
        metrics = Metrics()
        pacing = Pacing(self.store, now)
        gate = AccessGate(Router("en", 100_000), CurrentAccess(None), self.store, clock=now)
        policy = Enforcement(CurrentPolicy(None, {}), metrics, None)
        self.worker = Worker(
            self.store, gate, cast(Answerer, models), self.channels, metrics, policy, now, pacing
        )
        self.deliverer = Deliverer(self.store, self.channels, metrics, now, pacing)
        self.store.on_message = self.worker.add
        self.store.on_reply = self.deliverer.add

    async def begin(self) -> None:
        await self.store.join(1, tuple(self.channels))
        unfinished = await self.store.unfinished()
        self.deliverer.add(unfinished.replies)
        self.worker.add_commands(unfinished.commands)
        self.worker.add(unfinished.messages)

    async def settled(self) -> None:
        while True:
            depths = await self.store.depths()
            if not depths.inbox and not {"pending", "sending"} & depths.outbox.keys():
                return
            await asyncio.sleep(0.5)


@dataclass
class World:
    """Everything of one run. `seed` decides all of it."""

    seed: int
    answers_at_once: int = 4
    platforms: Platforms = field(default_factory=Platforms)
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.engine = new_engine()

    async def live(self, chances: Chances, *questions: Inbound, gap: float = 2.0) -> bool:
        """Start the bot and have it get these questions; return False if it crashed before it was done."""
        before = asyncio.all_tasks()
        life = Life(self, chances)

        async def receive() -> None:
            await life.begin()
            for question in questions:
                await life.store.store(question)
                await asyncio.sleep(self.chance.uniform(0.0, gap))
            await life.settled()

        living, dying = asyncio.create_task(receive()), asyncio.create_task(life.power.dead.wait())
        async with asyncio.timeout(SETTLED_WITHIN):
            await asyncio.wait((living, dying), return_when=asyncio.FIRST_COMPLETED)
        survived = not life.power.dead.is_set()
        life.power.dead.set()
        while left := asyncio.all_tasks() - before:
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        if survived:
            living.result()
        return survived

    def rows(self, table: Any) -> list[dict[str, Any]]:
        with self.engine.begin() as connection:
            return [dict(row._mapping) for row in connection.execute(select(table))]

    def check(self) -> None:
        """Raise `AssertionError` if what people see is not what the bot promises."""
        doubtful = {row["event_id"] for row in self.rows(outbox) if row["state"] == "doubtful"}
        lost = {row["event_id"] for row in self.rows(streams) if row["state"] == "lost"}
        assert not [row for row in self.rows(outbox) if row["state"] == "dead"], self.seed
        assert {row["state"] for row in self.rows(streams)} <= {"ended", "lost"}, self.seed
        history = [row["text"] for row in self.rows(turns) if row["role"] == "assistant"]
        poison = {row["event_id"] for row in self.rows(inbox) if row["outcome"] == "poison"}
        for asked in self.asked:
            asked_too_often = asked.event_id in poison
            assert history.count(asked.answer) == (not asked_too_often), (self.seed, asked)
            question = replace(asked, answer=EN.model_failed) if asked_too_often else asked
            shown = self._shown_to(question)
            finals = [text for text in shown if _is_answer(text, question)]
            certain = question.event_id not in doubtful
            assert len(finals) <= 1, (self.seed, question, shown)
            assert len(finals) == 1 or not certain, (self.seed, question, shown)
            left = [text for text in shown if not _is_answer(text, question)]
            may_be_left = question.channel == "telegram" and question.event_id in lost
            assert len(left) <= may_be_left, (self.seed, question, shown)
            assert question.channel == "telegram" or certain, (self.seed, question)
        cards = self.platforms.feishu.platform.cards.cards.values()
        assert not [card for card in cards if card.message_id and self._spins(card)], self.seed

    def _spins(self, card: Any) -> bool:
        recalled = card.message_id in self.platforms.feishu.platform.recalled
        return not recalled and now() < card.streaming_until

    def _shown_to(self, question: Asked) -> list[str]:
        """Return the texts of the messages that reply to a question."""
        if question.channel == "telegram":
            sent = self.platforms.telegram.bot.sent
            return [
                message["text"]
                for message in sent
                if str(message.get("reply_to_message", {}).get("message_id")) == question.reply_to
            ]
        platform = self.platforms.feishu.platform
        shown = []
        for message in platform.sent:
            if message.get("parent_id") != question.reply_to or message["message_id"] in platform.recalled:
                continue
            content = json.loads(message["body"]["content"])
            if content.get("type") == "card":
                shown.append(platform.cards.cards[content["data"]["card_id"]].text)
            else:
                shown.append(content["text"])
        return shown


def _is_answer(text: str, question: Asked) -> bool:
    return text == question.answer or text.startswith(f"{question.answer}\n\n")


async def crashing_world(seed: int) -> World:
    """Return a world in which the bot crashed a few times, and then finished everything."""
    world = World(seed)
    chance, platforms = world.chance, world.platforms
    chances = Chances(crash=0.01, refused=0.03, lost=0.03, slow=0.02)
    lives = 0
    for round in range(4):
        questions = []
        for number in range(chance.randint(1, 5)):
            text = f"question {round} {number}"
            place = chance.choice(("group", "private", "feishu"))
            if place == "feishu":
                inbound = platforms.write_on_feishu(f"ou_{chance.randint(1, 3)}", text)
            else:
                kind = "supergroup" if place == "group" else "private"
                chat = chance.randint(1, 2) * (-100 if place == "group" else 10)
                inbound = platforms.write_on_telegram(chat, kind, text)
            world.asked.append(
                Asked(
                    *(inbound.channel, inbound.event_id, inbound.conversation.chat, text),
                    *(inbound.reply_to, answer_to(text)),
                )
            )
            questions.append(inbound)
        while not await world.live(chances if lives < 40 else Chances(), *questions):
            lives += 1
    assert await world.live(Chances())
    world.check()
    return world
