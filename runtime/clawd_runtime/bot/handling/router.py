"""The decision about a message: ignore it, answer with a fixed text, or ask the model. No side effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clawd_runtime.bot.access.values import AccessChange
from clawd_runtime.bot.handling.rate_limit import RateLimitVerdict
from clawd_runtime.bot.settings import BotLanguage
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.text.commands import command_of
from clawd_runtime.bot.text.messages import Messages, messages_for
from clawd_runtime.bot.values import ConversationKey, Inbound, MessagePart, Quote
from clawd_runtime.visible import is_blank

# A quote that occurs in this many last turns is not repeated in the prompt.
QUOTABLE_TURNS = 10
LONGEST_QUOTE = 4000


@dataclass(frozen=True, slots=True)
class Ignore:
    """Send no answer; `outcome` is the reason."""

    outcome: str


@dataclass(frozen=True, slots=True)
class AlsoSay:
    """A text for someone else, in another private chat."""

    conversation: ConversationKey
    text: str


@dataclass(frozen=True, slots=True)
class Say:
    """Answer with a fixed text. `change` of access is stored together with it, `also` is sent with it."""

    outcome: str
    text: str
    begins_anew: bool = False
    change: AccessChange | None = None
    also: AlsoSay | None = None


@dataclass(frozen=True, slots=True)
class AskModel:
    """Have the model answer `question`; `messages` has the texts to send if it fails.

    `quoted` is the text that the question refers to, unless the model knows it as a turn of the conversation.
    `unread` are the parts of the message that the model does not get. `note` is shown below the answer.
    """

    question: str
    messages: Messages
    quoted: str = ""
    unread: tuple[MessagePart, ...] = ()
    note: str = ""

    def prompt(self, history: Sequence[Turn]) -> str:
        """Return the question in the form of the prompt after `history`."""
        if not self.quoted or any(self.quoted in turn.text for turn in history[-QUOTABLE_TURNS:]):
            return self.question
        quoted = self.quoted if len(self.quoted) <= LONGEST_QUOTE else f"{self.quoted[:LONGEST_QUOTE]}…"
        lines = "\n".join(f"> {line}" for line in quoted.splitlines())
        return f"{self.messages.in_reply_to}\n{lines}\n\n{self.question}"


Decision = Ignore | Say | AskModel


class Router:
    """The rules for messages on all platforms."""

    def __init__(self, language: BotLanguage, limit: int) -> None:
        self._language: BotLanguage = language
        self._limit = limit

    def decide(self, inbound: Inbound, verdict: RateLimitVerdict | None) -> Decision:
        """Return the decision about a message with this `verdict` of the rate limit."""
        if inbound.chat_kind == "group" and not inbound.addressed:
            return Ignore("not_addressed")
        words = self.words(inbound)
        if verdict is RateLimitVerdict.IGNORE:
            return Ignore("rate_limited")
        if verdict is RateLimitVerdict.EXPLAIN:
            return Say("rate_limited", words.rate_limited.format(limit=self._limit))
        text = inbound.text.strip()
        if is_blank(text):
            return _without_words(inbound, words)
        if (answer := _command(text, words)) is not None:
            return answer
        quote = inbound.quote or Quote()
        question = "\n".join(filter(None, (words.marked(inbound.parts), text)))
        quoted = "\n".join(filter(None, (words.marked(quote.parts), quote.text.strip())))
        if quote.ref and is_blank(quoted):
            quoted = words.quote_missing
        return AskModel(question, words, quoted, (*inbound.parts, *quote.parts))

    def give_up(self, inbound: Inbound) -> Ignore | Say:
        """Return the decision about a message that cannot be handled because of an internal error."""
        if inbound.chat_kind == "group" and not inbound.addressed:
            return Ignore("failed")
        return Say("failed", self.words(inbound).model_failed)

    def words(self, inbound: Inbound) -> Messages:
        """Return the bot's texts in the language of a message."""
        quoted = inbound.quote.text if inbound.quote else ""
        return messages_for(
            self._language, quoted if is_blank(inbound.text) else inbound.text, inbound.language
        )


def _without_words(inbound: Inbound, words: Messages) -> Say | AskModel:
    """Return the decision about a message without text: the text it refers to is the question."""
    quote = inbound.quote or Quote()
    text, parts = quote.text.strip(), (*inbound.parts, *quote.parts)
    if not is_blank(text):
        return AskModel("\n".join(filter(None, (words.marked(parts), text))), words, unread=parts)
    if parts:
        return Say("no_text", words.only_parts.format(parts=words.named(parts)))
    return Say("no_text", words.quote_unreadable if quote.ref else words.only_text)


def _command(text: str, words: Messages) -> Say | None:
    """Return the answer to a command; None if the text is not a command."""
    match command_of(text):
        case "":
            return None
        case "new":
            return Say("command", words.new_conversation, begins_anew=True)
        case "help":
            return Say("command", words.help)
        case "stop":
            return Say("command", words.stop_done)
        case "start":
            return Say("command", words.greeting)
    return Say("command", words.unknown_command.format(command=text.split(maxsplit=1)[0]))
