"""What to do with a message: ignore it, say something ourselves, or ask the model. Without effects."""

from __future__ import annotations

from dataclasses import dataclass

from clawd_runtime.bot.messages import Messages, messages_for
from clawd_runtime.bot.rate_limit import Verdict
from clawd_runtime.bot.settings import Language
from clawd_runtime.bot.values import Inbound


@dataclass(frozen=True, slots=True)
class Ignore:
    """Leave it without an answer; `outcome` says why."""

    outcome: str


@dataclass(frozen=True, slots=True)
class Say:
    """Answer with words of our own."""

    outcome: str
    text: str
    begins_anew: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Let the model answer `question`; `messages` are our own words should it fail."""

    question: str
    messages: Messages


Decision = Ignore | Say | Ask


class Router:
    """The rules that hold on every platform."""

    def __init__(self, language: Language, limit: int) -> None:
        self._language: Language = language
        self._limit = limit

    def decide(self, inbound: Inbound, verdict: Verdict | None) -> Decision:
        """Decide about a message of which the rate limit says `verdict`."""
        if inbound.chat_kind == "group" and not inbound.addressed:
            return Ignore("not_addressed")
        words = messages_for(self._language, inbound.text, inbound.language)
        if verdict is Verdict.IGNORE:
            return Ignore("rate_limited")
        if verdict is Verdict.EXPLAIN:
            return Say("rate_limited", words.rate_limited.format(limit=self._limit))
        text = inbound.text.strip()
        if not text:
            return Say("no_text", words.only_text)
        if text.startswith("/"):
            return _command(text, words)
        return Ask(text, words)

    def give_up(self, inbound: Inbound) -> Ignore | Say:
        """What to do with a message that cannot be dealt with because of a fault of ours."""
        if inbound.chat_kind == "group" and not inbound.addressed:
            return Ignore("failed")
        return Say("failed", messages_for(self._language, inbound.text, inbound.language).model_failed)


def _command(text: str, words: Messages) -> Decision:
    command = text.split(maxsplit=1)[0]
    match command.lower():
        case "/new":
            return Say("command", words.new_conversation, begins_anew=True)
        case "/help":
            return Say("command", words.help)
        case "/start":
            return Say("command", words.greeting)
    if not command[1:].replace("_", "").isalnum() or len(command) > 33:
        # A path, a comment, "/ or": no command after all.
        return Ask(text, words)
    return Say("command", words.unknown_command.format(command=command))
