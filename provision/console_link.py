"""Links that log a person in at the page in the browser."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path

import jwt

from inventory.errors import ClawdError
from inventory.load import LoadedInventory
from provision.chat import CLOCK_DIFFERENCE_S, console_of

AUDIENCE = "console-page"
"""The audience of these tokens: the bot accepts them for logging in once, and for nothing else."""


@dataclass(frozen=True, slots=True)
class PageLink:
    """A link, and the PEM file of the authority that the browser has to trust; `None`: it does already."""

    url: str = field(repr=False)
    authority: Path | None


def page_link(loaded: LoadedInventory, user: str, minutes: int, now: float) -> PageLink:
    """Return a link that logs `user` in once, within `minutes` from `now` (seconds since the epoch).

    The token is in the fragment, which browsers do not send to servers. Raises `ClawdError` when the
    inventory declares no page.
    """
    endpoint = console_of(loaded)
    console = loaded.inventory.channels.console
    if console is None or not console.page:
        raise ClawdError(
            f"{loaded.path}: the console has no page in the browser",
            advice="set `channels.console.page: true`, and run `up`",
        )
    claims = {
        "sub": user,
        "aud": AUDIENCE,
        "iat": int(now) - CLOCK_DIFFERENCE_S,
        "exp": int(now) + 60 * minutes,
        "jti": str(uuid.uuid4()),
    }
    token = jwt.encode(claims, endpoint.secret, algorithm="HS256")
    return PageLink(f"{endpoint.page}#login={token}", endpoint.authority)
