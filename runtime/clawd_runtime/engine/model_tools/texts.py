"""Texts that models predict, written for this purpose, so that no model has been trained on them before."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("texts")


def text_in(language: str) -> str:
    """Return the text of a language, `en` or `zh`."""
    return (_FOLDER / f"{language}.txt").read_text(encoding="utf-8")
