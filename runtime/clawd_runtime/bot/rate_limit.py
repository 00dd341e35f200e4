"""How many messages a user may send.

At most so many of a user in any minute; refused messages do not count. It goes by the time a message was
received, so a backlog after a pause is judged as it arrived. The judgements are stored with the messages
(`store.inbox`): all bots on a database share them, a restart does not forget them, and no message is judged
twice.
"""

from __future__ import annotations

from enum import Enum

WINDOW = 60.0


class Verdict(Enum):
    """What to do with a message."""

    ALLOW = "allow"
    EXPLAIN = "explain"  # over the limit for the first time: say so
    IGNORE = "ignore"  # over the limit, and told already
