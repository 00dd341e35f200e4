"""Logging in with a link that works once, and the sessions that follow.

The link has a JWT in its fragment, which browsers send to no server and write into no log, and which programs
that preview links do not see. The page's script exchanges it for a session: a random number in a cookie that
scripts cannot read. The store keeps only its HMAC under the console's key, so a copy of the database opens no
session, and a new key ends all of them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from clawd_runtime.bot.channels.console.token import InvalidToken, token_of
from clawd_runtime.bot.ports import Inbox, PageStore
from clawd_runtime.bot.text.unicode import whole_characters
from clawd_runtime.errors import StoreError

AUDIENCE = "console-page"
"""The audience of the links' tokens, which the console's API does not accept."""
COOKIE = "__Host-clawd-page"
LIFETIME = 7 * 24 * 3600
LONGEST_SESSION = 128


class Sessions:
    """Begins, finds and ends sessions."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    async def log_in(self, inbox: Inbox, pages: PageStore, token: str) -> str | None:
        """Return a new session for the token of a link; None if it is invalid, or was used before.

        Raise `StoreError` if its use cannot be stored.
        """
        now = time.time()
        try:
            claims = token_of(token, self._secret, now, AUDIENCE)
        except InvalidToken:
            return None
        used = hashlib.sha256(json.dumps([AUDIENCE, claims.user, claims.id]).encode()).hexdigest()
        use = await inbox.use_token(used, AUDIENCE, claims.expires_at)
        if use == "full":
            raise StoreError("too many unexpired tokens")
        if use != "new":
            return None
        session = secrets.token_urlsafe(32)
        await pages.begin_session(self._stored(session), whole_characters(claims.user), now + LIFETIME)
        return session

    async def user_of(self, pages: PageStore, request: Request) -> str | None:
        """Return the user of a request; None if it has no valid session."""
        session = request.cookies.get(COOKIE, "")
        if not 0 < len(session) <= LONGEST_SESSION:
            return None
        return await pages.user_of(self._stored(session))

    async def log_out(self, pages: PageStore, request: Request) -> None:
        """End the session of a request."""
        await pages.end_session(self._stored(request.cookies.get(COOKIE, "")[:LONGEST_SESSION]))

    def _stored(self, session: str) -> str:
        return hmac.new(self._secret, f"page session {session}".encode(), hashlib.sha256).hexdigest()


def remember(response: Response, session: str) -> None:
    """Set the cookie of a session: only over HTTPS, not for scripts, and not in requests of other sites."""
    response.set_cookie(COOKIE, session, max_age=LIFETIME, secure=True, httponly=True, samesite="strict")


def forget(response: Response) -> None:
    """Delete the cookie."""
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="strict")


def is_from_page(request: Request) -> bool:
    """Return whether a request that changes something was sent by a script of this page.

    Forms of other sites cannot send JSON, and their scripts only after a preflight, which is refused.
    Browsers report where a request comes from; nginx passes the host without its port.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return False
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site == "same-origin"
    try:
        origin = urlsplit(request.headers.get("origin", ""))
        host = urlsplit(f"//{request.headers.get('host', '')}")
    except ValueError:  # brackets without an IPv6 address in them
        return False
    return (
        origin.scheme in ("http", "https")
        and origin.hostname is not None
        and origin.hostname == host.hostname
    )
