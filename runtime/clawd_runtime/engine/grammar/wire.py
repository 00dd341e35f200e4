"""Messages between the engine and the processes that run grammars; one packet each.

The engine sends a grammar, then `ALLOW` or `ACCEPT` with a token; a process answers what is stated there.
"""

from __future__ import annotations

import struct

TOKEN = struct.Struct("<ci")

ALLOW = b"?"
"""May this token follow? Answered by `YES`, after which it counts as accepted, or `NO` and the allowed tokens
as a bit each, least significant bit first."""
ACCEPT = b"+"
"""This allowed token follows. Not answered."""

YES, NO = b"y", b"n"
READY = b"r"
"""The answer to a grammar that can be used."""
REFUSED = b"x"
"""The answer to another one, followed by the reason in UTF-8."""

LARGEST_PACKET = 160 * 1024  # bytes; less than a socket's default buffer, which limits packets
