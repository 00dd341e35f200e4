"""Protection of answers against failures of formatting: an answer is sent as plain text, but never lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from clawd_runtime.bot.values import Content
from clawd_runtime.visible import is_blank

log = logging.getLogger(__name__)

LONGEST = 200_000
LARGEST_GROWTH = 8
SMALL = 2000
# An error of the parser's Rust code, which is not an `Exception`.
PANIC = "PanicException"


def guarded(make: Callable[[str], Sequence[Content]], markdown: str) -> tuple[Content, ...]:
    """Return the messages that `make` makes of an answer; none if it must be sent as plain text.

    That is so if formatting fails, if nothing of the answer would be seen, and if it is much longer with
    formatting than without.
    """
    if len(markdown) > LONGEST:
        log.warning("an answer of %d characters is sent without formatting", len(markdown))
        return ()
    try:
        contents = tuple(make(markdown))
    except Exception:
        log.exception("internal error: an answer is sent without formatting")
        return ()
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        log.exception("internal error: an answer is sent without formatting")
        return ()
    size = sum(len(content.text) for content in contents)
    if size > LARGEST_GROWTH * len(markdown) + SMALL or all(is_blank(content.text) for content in contents):
        return ()
    return contents
