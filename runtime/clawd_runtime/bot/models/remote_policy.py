"""What may leave the house: which messages a remote model may answer, and what is removed from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from clawd_runtime.bot.values import ChatKind, ConversationKey

Redaction = Literal["email", "phone", "id_number", "bank_card", "ip_address"]

_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}")
_PHONE = re.compile(
    r"(?<![0-9A-Za-z_.+-])(?!\d{4}-\d\d-\d\d(?!\d))"
    r"(?:\+\d{1,3}[ -]?)?(?:\(\d{1,4}\)[ -]?)?\d(?:[ -]?\d){6,14}"
    r"(?![0-9A-Za-z_-]|\.\d)"
)
_ID_NUMBER = re.compile(r"(?<![0-9A-Za-z_])\d{17}[\dXx](?![0-9A-Za-z_])")
_CARD = re.compile(r"(?<![0-9A-Za-z_-])\d(?:[ -]?\d){12,18}(?![0-9A-Za-z_-])")
_IP_ADDRESS = re.compile(r"(?<![0-9A-Za-z_.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)")
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


@dataclass(frozen=True, slots=True)
class Asker:
    """The sender of a question: `number` is unique among the messages that are handled."""

    number: int
    conversation: ConversationKey
    user: str
    chat_kind: ChatKind = "private"


@dataclass(frozen=True, slots=True)
class RemotePolicy:
    """Who may be answered by a model, and what it does not get to read.

    `channels` are names. `users` are `CHANNEL:USER`, `groups` are `CHANNEL:CHAT`, with the ids of the
    platform. None allows all. `marks`: answers name the model.
    """

    channels: frozenset[str] | None = None
    users: frozenset[str] | None = None
    groups: frozenset[str] | None = None
    redact: tuple[Redaction, ...] = ()
    marks: bool = False

    def allows(self, asker: Asker) -> bool:
        """Return whether a message of `asker` may be sent to the model.

        A message in a group needs both: the group, whose history it takes along, and its sender.
        """
        channel, chat = asker.conversation.channel, asker.conversation.chat
        return (
            (self.channels is None or channel in self.channels)
            and (self.users is None or f"{channel}:{asker.user}" in self.users)
            and (asker.chat_kind == "private" or self.groups is None or f"{channel}:{chat}" in self.groups)
        )

    def redacted(self, text: str) -> str:
        """Return `text` with what must not leave replaced by its kind, such as `[email]`."""
        for kind, replace in _REDACTIONS.items():
            if kind in self.redact:
                text = replace(text)
        return text


EVERYTHING = RemotePolicy()


def _replacing(
    pattern: re.Pattern[str], kind: Redaction, is_one: Callable[[str], bool] = lambda found: True
) -> Callable[[str], str]:
    def replaced(found: re.Match[str]) -> str:
        return f"[{kind}]" if is_one(found[0]) else found[0]

    return lambda text: pattern.sub(replaced, text)


def _is_id_number(text: str) -> bool:
    """Return whether the check digit of a Chinese resident identity number is right (GB 11643-1999)."""
    total = sum(int(digit) * weight for digit, weight in zip(text, _WEIGHTS, strict=False))
    return text[17].upper() == "10X98765432"[total % 11]


def _is_card(text: str) -> bool:
    """Return whether the check digit of a card number is right (Luhn, ISO/IEC 7812-1)."""
    digits = [int(character) for character in reversed(text) if character.isdigit()]
    return sum(d if n % 2 == 0 else sum(divmod(2 * d, 10)) for n, d in enumerate(digits)) % 10 == 0


# In this order: the digits of an identity number or a card could be those of a phone number, too.
_REDACTIONS: Mapping[Redaction, Callable[[str], str]] = {
    "email": _replacing(_EMAIL, "email"),
    "id_number": _replacing(_ID_NUMBER, "id_number", _is_id_number),
    "bank_card": _replacing(_CARD, "bank_card", _is_card),
    "ip_address": _replacing(_IP_ADDRESS, "ip_address"),
    "phone": _replacing(_PHONE, "phone"),
}
