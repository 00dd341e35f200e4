"""Pairing codes by a clock that the tests set."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.access import pairing
from clawd_runtime.bot.access.values import Guesses, PairingRequest, Person
from clawd_runtime.bot.values import ConversationKey

ANN = Person("9", ConversationKey("telegram", "9"), "private")


def requested(before: PairingRequest | None, now: float) -> PairingRequest | None:
    return pairing.next_request(ANN, before, "ABCD-2345", "en", now)


def test_codes_differ_and_are_readable() -> None:
    codes = {pairing.new_code() for _ in range(200)}
    assert len(codes) == 200
    assert all(re.fullmatch(r"[2-9A-HJKMNP-TV-Z]{4}-[2-9A-HJKMNP-TV-Z]{4}", code) for code in codes)


def test_code_is_recognised_however_it_is_typed() -> None:
    digests = {pairing.digest_of(typed) for typed in ("ABCD-2345", "abcd2345", " ab-cd 23-45 ", "ABCD 2345")}
    assert len(digests) == 1
    assert None not in digests


@given(st.text())
def test_text_that_cannot_be_code_has_no_digest(text: str) -> None:
    letters = re.sub(r"[\s-]", "", text.upper())
    is_code = len(letters) == pairing.LENGTH and set(letters) <= set(pairing.ALPHABET)
    assert (pairing.digest_of(text) is not None) is is_code


def test_code_expires_and_is_not_stored() -> None:
    request = requested(None, 1000.0)
    assert request is not None
    assert "ABCD" not in repr(request)
    assert pairing.is_valid(request, 1000.0 + pairing.LIFETIME - 1)
    assert not pairing.is_valid(request, 1000.0 + pairing.LIFETIME)
    assert not pairing.is_valid(request, 1000.0 - pairing.LIFETIME), "the clock was set back"


def test_person_gets_few_codes_an_hour() -> None:
    issued, request, now = 0, None, 1000.0
    for _ in range(3600):
        if (fresh := requested(request, now)) is not None:
            issued, request = issued + 1, fresh
        now += 1.0
    assert issued == pairing.MOST_CODES
    assert requested(request, now + 1) is not None


def test_messages_in_the_minute_after_a_code_get_no_other_one() -> None:
    first = requested(None, 1000.0)
    assert requested(first, 1000.0 + pairing.AGAIN_AFTER - 1) is None
    assert requested(first, 1000.0 + pairing.AGAIN_AFTER) is not None


def test_administrator_may_guess_few_codes_an_hour() -> None:
    guesses, allowed = Guesses(), 0
    for second in range(100):
        if pairing.may_guess(guesses, 1000.0 + second):
            allowed += 1
            guesses = pairing.after_wrong_guess(guesses, 1000.0 + second)
    assert allowed == pairing.MOST_GUESSES
    assert pairing.may_guess(guesses, 1000.0 + pairing.WINDOW)
