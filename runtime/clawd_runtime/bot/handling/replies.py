"""Replies made of answers and of the bot's texts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from clawd_runtime.bot.access.values import TokensUsed
from clawd_runtime.bot.channels.base import Channel
from clawd_runtime.bot.handling.router import AskModel
from clawd_runtime.bot.models.attempt import ModelAnswer
from clawd_runtime.bot.policy.values import PolicyMessage
from clawd_runtime.bot.store.inbox import Task
from clawd_runtime.bot.values import Content, Inbound, Reply, reply_key
from clawd_runtime.visible import is_blank

# Characters of an answer that are formatted within some milliseconds.
FORMATTED_AT_ONCE = 8000


def notes_below(answer: ModelAnswer, ask: AskModel, notices: Iterable[PolicyMessage], task: Task) -> str:
    """Return the notes below an answer.

    They say what was cut or not read, who has answered, and that an earlier answer may not have arrived;
    notices of the policy are among them.
    """
    words = ask.messages
    cut = {"length": words.cut_length, "filtered": words.cut_filtered, "broken": words.cut_broken}
    mark = answer.source.mark if answer.source else ""
    source = words.answered_by.format(model=mark) if mark else ""
    unread = words.parts_unread.format(parts=words.named(ask.unread)) if ask.unread else ""
    doubt = words.earlier_in_doubt if task.doubts else ""
    texts = (notice.text(words.language) for notice in notices)
    notes = (cut[answer.cut] if answer.cut else "", unread, *texts, source, doubt, ask.note)
    return "\n\n".join(filter(None, notes))


def tokens_used(answer: ModelAnswer) -> TokensUsed | None:
    """Return the tokens of an answer; None for one of an unknown model."""
    if answer.source is None or answer.tokens is None:
        return None
    tokens = answer.tokens
    return TokensUsed(answer.source.model, tokens.prompt, tokens.answer, tokens.counted)


async def formatted_contents(channel: Channel, markdown: str, notes: str) -> tuple[Content, ...]:
    """Return an answer as messages, formatted in a thread if it is long enough to delay other answers."""
    if len(markdown) <= FORMATTED_AT_ONCE:
        return channel.formatted(markdown, notes)
    return await asyncio.to_thread(channel.formatted, markdown, notes)


def replies_to(inbound: Inbound, channel: Channel, text: str) -> tuple[Reply, ...]:
    """Return the messages of a text of the bot, split by the channel."""
    return numbered(inbound, parts_of_text(channel, text))


def parts_of_text(channel: Channel, text: str) -> tuple[Content, ...]:
    """Return the messages of a text as a channel splits it."""
    return visible(Content(part) for part in channel.split(text))


def visible(contents: Iterable[Content]) -> tuple[Content, ...]:
    """Return the messages in which something can be seen."""
    return tuple(content for content in contents if not is_blank(content.text))


def numbered(inbound: Inbound, contents: Sequence[Content]) -> tuple[Reply, ...]:
    """Return the replies to a message with these contents."""
    return tuple(
        Reply(
            key=reply_key(inbound.channel, inbound.event_id, number),
            event_id=inbound.event_id,
            conversation=inbound.conversation,
            chat_kind=inbound.chat_kind,
            reply_to=inbound.reply_to,
            text=content.text,
            part=number,
            parts=len(contents),
            formatting=content.formatting,
        )
        for number, content in enumerate(contents)
    )
