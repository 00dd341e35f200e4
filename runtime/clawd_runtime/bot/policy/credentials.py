"""The credentials of the deployment as forbidden words, in the forms in which a text could contain them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from clawd_runtime.bot.policy.folding.text import FoldedText
from clawd_runtime.bot.policy.values import WordGroup
from clawd_runtime.bot.policy.words import LONGEST_WORD

SHORTEST = 8
"""Letters and digits; a shorter credential is also a word of ordinary texts."""
STEP = LONGEST_WORD // 2
"""Distance of the parts of a long credential: of any `LONGEST_WORD + STEP` letters, a whole part is found."""
REPLACEMENT = "[credential removed]"
PUBLIC = ("internal-certificate", "internal-authority")


def credential_groups(credentials: Mapping[str, str]) -> tuple[WordGroup, ...]:
    """Return a group of words for each credential, named after it."""
    return tuple(
        WordGroup(
            name=f"credential {name}",
            words=tuple(dict.fromkeys(part for form in _forms(value) for part in _parts(form))),
            action="replace",
            replacement=REPLACEMENT,
            secret=True,
        )
        for name, value in credentials.items()
        if name not in PUBLIC
    )


def _forms(value: str) -> Iterator[str]:
    """Yield a credential as it is, percent-encoded, in hexadecimal, and in base64 at each alignment."""
    raw = value.encode()
    yield value
    yield quote(value, safe="")
    yield raw.hex()
    for alignment in range(3):
        # The first and the last characters also depend on what surrounds the credential.
        whole = (alignment + len(raw)) // 3 * 4
        encoded = base64.b64encode(bytes(alignment) + raw).decode()[:whole]
        yield encoded[4 if alignment else 0 :]
    yield base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _parts(form: str) -> Iterator[str]:
    """Yield a form in overlapping parts that are short enough for a word."""
    letters = FoldedText(form).units
    if len(letters) < SHORTEST:
        return
    last = max(0, len(letters) - LONGEST_WORD)
    for start in (*range(0, last, STEP), last):
        yield letters[start : start + LONGEST_WORD]
