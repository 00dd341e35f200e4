"""Pairing codes: when one is issued, and whether one is right. Pure but for the choice of a code."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace

from clawd_runtime.bot.access.values import Guesses, PairingRequest, Person

# Without characters that look alike; 8 of 30 are 39 bits.
ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 8
LIFETIME = 15 * 60.0
WINDOW = 3600.0
MOST_CODES = 3
"""Codes that a person gets within `WINDOW`."""
AGAIN_AFTER = 60.0
"""Seconds after a code in which the person's messages get no other one: they may be several at once."""
MOST_PENDING = 200
"""Requests of a channel that may be pending, so that strangers cannot fill the database."""
MOST_GUESSES = 5
"""Wrong codes that an administrator may enter within `WINDOW`."""


def new_code() -> str:
    """Return a code for a person, in the form in which it is shown."""
    drawn = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{drawn[:4]}-{drawn[4:]}"


def digest_of(code: str) -> str | None:
    """Return the digest of a code as someone has typed it; None if it cannot be one."""
    typed = "".join(code.upper().replace("-", "").split())
    if len(typed) != LENGTH or not set(typed) <= set(ALPHABET):
        return None
    return hashlib.sha256(typed.encode()).hexdigest()


def next_request(
    person: Person, before: PairingRequest | None, code: str, language: str, now: float
) -> PairingRequest | None:
    """Return the request with which `person` gets `code`; None if there is no other code yet."""
    digest = digest_of(code)
    assert digest is not None, "a code that was drawn"
    request = PairingRequest(
        channel=person.conversation.channel,
        user=person.user,
        digest=digest,
        conversation=person.conversation,
        language=language,
        issued_at=now,
        expires_at=now + LIFETIME,
        issued=1,
        window_at=now,
    )
    if before is None or not before.window_at <= now < before.window_at + WINDOW:
        return request
    if now < before.issued_at + AGAIN_AFTER or before.issued >= MOST_CODES:
        return None
    return replace(request, issued=before.issued + 1, window_at=before.window_at)


def may_guess(guesses: Guesses, now: float) -> bool:
    """Return whether an administrator may enter a code."""
    return _current(guesses, now).count < MOST_GUESSES


def after_wrong_guess(guesses: Guesses, now: float) -> Guesses:
    """Return the guesses of an administrator after another wrong code."""
    current = _current(guesses, now)
    return replace(current, count=current.count + 1)


def is_valid(request: PairingRequest, now: float) -> bool:
    """Return whether the code of a request may still be confirmed."""
    return request.issued_at <= now + AGAIN_AFTER and now < request.expires_at


def _current(guesses: Guesses, now: float) -> Guesses:
    return guesses if guesses.window_at <= now < guesses.window_at + WINDOW else Guesses(0, now)
