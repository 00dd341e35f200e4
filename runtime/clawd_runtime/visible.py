"""Classification of characters as visible or not."""

from __future__ import annotations

import unicodedata

# Default_Ignorable_Code_Point of Unicode, which Python's `unicodedata` lacks. Source:
# https://www.unicode.org/Public/16.0.0/ucd/DerivedCoreProperties.txt. Most of it is not assigned yet.
DEFAULT_IGNORABLE = (
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
# A symbol by its category, but invisible.
BLANK_OF_BRAILLE = "\u2800"
# Control and format characters, white space, and marks that only change the preceding character. Unassigned
# code points are not included: they are emoji of a newer Unicode than Python's.
NOT_DRAWN = frozenset(("Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Mc", "Me"))


def is_drawn(character: str) -> bool:
    """Return whether `character` is visible on its own."""
    if "!" <= character <= "~":
        return True
    code = ord(character)
    return (
        character != BLANK_OF_BRAILLE
        and unicodedata.category(character) not in NOT_DRAWN
        and not any(first <= code <= last for first, last in DEFAULT_IGNORABLE)
    )


def is_blank(text: str) -> bool:
    """Return whether `text` is invisible: empty, white space or zero-width characters."""
    return not any(map(is_drawn, text))
