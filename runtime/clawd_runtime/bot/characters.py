"""Text that can be stored and sent."""

from __future__ import annotations


def whole_characters(text: str) -> str:
    r"""`text` as UTF-8 can hold it.

    JSON may carry halves of characters (`\ud83d`): two that belong together are joined, one that is alone
    becomes U+FFFD. So does U+0000, which PostgreSQL takes in no text.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")
