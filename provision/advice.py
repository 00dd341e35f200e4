"""What to do about errors that programs on hosts print."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"No space left on device|not enough free space",
        "free disk space on the host (`df -h`, `journalctl --vacuum-size=200M`), then run `up` again",
    ),
    (
        r"Could not get lock|dpkg frontend lock|is another process using it",
        "another package run is active on the host; wait for it, then run `up` again",
    ),
    (r"dpkg was interrupted", "run `sudo dpkg --configure -a` on the host, then `up` again"),
    (
        r"Temporary failure resolving|Could not resolve|Failed to fetch|Unable to fetch",
        "the host does not reach its package mirror; check its network, or set `internet: false`",
    ),
    (
        r"not valid yet|certificate is not yet valid|invalid for another",
        "the host's clock is wrong; check `timedatectl`",
    ),
    (r"sudo: a password is required|sudo: .*not allowed", "give the login passwordless sudo on the host"),
    (r"Read-only file system", "the host's file system is read-only; check `dmesg` and its disk"),
)


def advice_for(output: Iterable[str]) -> str:
    """A sentence telling what to do about the known causes in `output`; empty when none is known."""
    text = "\n".join(output)
    return next((advice for pattern, advice in _ADVICE if re.search(pattern, text)), "")
