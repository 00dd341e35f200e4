"""Checks of external text for UTF-8."""

from __future__ import annotations


def is_utf8(text: str) -> bool:
    """Return whether `text` can be written as UTF-8.

    Arguments, environment variables and paths that are not UTF-8 reach Python with surrogates (PEP 383).
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(text: str) -> str:
    """Return `text` with `?` for what cannot be written as UTF-8."""
    return text.encode(errors="replace").decode()


def printable(text: str) -> str:
    """Return `text` with `?` for what a terminal would not print, such as its control sequences."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
