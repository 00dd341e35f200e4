"""Addresses in text: which may be clickable, and those that are written without Markdown."""

from __future__ import annotations

import re
from bisect import bisect_left
from urllib.parse import urlsplit

from clawd_runtime.bot.text.markdown.rich_text import RichText, Span

LONGEST_ADDRESS = 2000
_HOST = re.compile(r"(?=.{4,253}\Z)[\w-]{1,63}(?:\.[\w-]{1,63})*\.[^\W_]{2,63}|\d{1,3}(?:\.\d{1,3}){3}")
_FORBIDDEN = re.compile(r"[\s\x00-\x1f\x7f<>\"'`\\^{}|]")
_BARE = re.compile(r"(?<![A-Za-z0-9/])https?://[A-Za-z0-9\-._~:/?#@!$&()*+,;=%\[\]]{4,2000}")
_TRAILING = ".,:;!?*_~&"
_PAIRS = {")": "(", "]": "["}


def is_clickable(address: str) -> bool:
    """Return whether all platforms accept `address` as the target of a link.

    Only web addresses: `tg://user?id=…` would mention a user, and others open programs.
    """
    if len(address) > LONGEST_ADDRESS or _FORBIDDEN.search(address):
        return False
    try:
        parsed = urlsplit(address)
        port_is_valid = parsed.port is None or parsed.port > 0
    except ValueError:
        return False
    return (
        parsed.scheme in ("http", "https")
        and port_is_valid
        and "@" not in parsed.netloc
        and bool(_HOST.fullmatch(parsed.hostname or ""))
    )


def with_bare_links(text: RichText) -> RichText:
    """Return the text with links where it contains addresses outside links and code."""
    if "://" not in text.text:
        return text
    edges = sorted({edge for span in text.spans for edge in (span.start, span.end)})
    opaque = [span for span in text.spans if span.style in ("link", "code", "pre")]
    starts, found = [span.start for span in opaque], []
    for match in _BARE.finditer(text.text):
        start, end = match.start(), match.start() + len(_without_trailing(match[0]))
        before = bisect_left(starts, end) - 1
        is_opaque = before >= 0 and opaque[before].end > start
        is_cut = bisect_left(edges, end) > bisect_left(edges, start + 1)
        if not is_opaque and not is_cut and is_clickable(text.text[start:end]):
            found.append(Span(start, end, "link", text.text[start:end]))
    if not found:
        return text
    # Sorted like a builder's; a link stands outside a style of the same characters.
    return RichText(text.text, tuple(sorted((*found, *text.spans), key=lambda s: (s.start, -s.end))))


def _without_trailing(address: str) -> str:
    """Return the address without punctuation of the sentence around it."""
    counts = {mark: address.count(mark) for mark in "()[]"}
    end = len(address)
    while end:
        last = address[end - 1]
        unpaired = last in _PAIRS and counts[last] > counts[_PAIRS[last]]
        if last not in _TRAILING and not unpaired:
            break
        if last in counts:
            counts[last] -= 1
        end -= 1
    return address[:end]
