"""Text that can be stored and sent."""

from __future__ import annotations

import unicodedata

# Letters and symbols by their category, but nothing is drawn: fillers of Hangul, and the blank of Braille.
DRAWN_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
# Control and format characters, white space, and marks that only change the character before them. Not what
# is unassigned: that is the emoji of a Unicode newer than Python's.
NOT_DRAWN = frozenset(("Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Mc", "Me"))


def whole_characters(text: str) -> str:
    r"""`text` as UTF-8 can hold it.

    JSON may carry halves of characters (`\ud83d`): two that belong together are joined, one that is alone
    becomes U+FFFD. So does U+0000, which PostgreSQL takes in no text.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def is_blank(text: str) -> bool:
    """Return whether a reader of `text` sees nothing: it is empty, white space or zero-width characters."""
    return all(character in DRAWN_BLANK or unicodedata.category(character) in NOT_DRAWN for character in text)
