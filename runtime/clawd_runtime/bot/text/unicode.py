"""Checks and repairs of Unicode text, so that it can be stored and sent."""

from __future__ import annotations


def whole_characters(text: str) -> str:
    r"""Return `text` in a form that UTF-8 and PostgreSQL can store.

    JSON may contain surrogates (`\ud83d`): a pair becomes its character, a lone one becomes U+FFFD. So does
    U+0000, which PostgreSQL does not accept in text.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")
