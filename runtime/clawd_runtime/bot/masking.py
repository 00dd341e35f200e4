"""Masking of secrets in the log lines of all libraries."""

from __future__ import annotations

import logging
from collections.abc import Iterable

SHORTEST = 4
MASK = "***"


class Masking(logging.Formatter):
    """A formatter that formats like `inner`, tracebacks included, and masks every secret."""

    def __init__(self, inner: logging.Formatter | None, secrets: Iterable[str]) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()
        # Longest first: one secret may be part of another.
        self._secrets = sorted({s for s in secrets if len(s) >= SHORTEST}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """Return the formatted record with every secret masked."""
        line = self._inner.format(record)
        for secret in self._secrets:
            line = line.replace(secret, MASK)
        return line


def mask_secrets(secrets: Iterable[str]) -> None:
    """Mask these secrets in everything that the root logger's handlers write from now on."""
    secrets = tuple(secrets)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(Masking(handler.formatter, secrets))
