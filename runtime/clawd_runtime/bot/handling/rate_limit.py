"""The rate limit of a user's messages.

It allows a number of messages of a user in any minute; refused messages do not count. The time of reception
counts, so a backlog after a pause is judged as it arrived. The verdicts are stored with the messages
(`store.inbox`): all bots on a database share them, they survive a restart, and no message is judged twice.
"""

from __future__ import annotations

from enum import Enum

WINDOW = 60.0


class RateLimitVerdict(Enum):
    """The verdict of the rate limit on a message."""

    ALLOW = "allow"
    EXPLAIN = "explain"  # over the limit for the first time: notify the user
    IGNORE = "ignore"  # over the limit, and the user is already notified
