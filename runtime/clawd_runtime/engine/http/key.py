"""The API key of an engine that has one."""

from __future__ import annotations

import hmac
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from clawd_runtime.engine.http.protocol import error_body
from clawd_runtime.errors import RequestError, SettingsError

# They say nothing about conversations, and supervisors that ask for them have no key.
_OPEN = ("/health", "/metrics")
_SHORTEST = 16


def read_key(path: Path) -> str:
    """Return the key in the file `path`.

    Raises:
        SettingsError: The file cannot be read, or the key is too short or not printable ASCII.

    """
    try:
        key = path.read_text().strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the API key {path}: {error}") from None
    if len(key) < _SHORTEST or not (key.isascii() and key.isprintable()):
        raise SettingsError(
            f"the API key in {path} is unusable",
            advice=f"it must have at least {_SHORTEST} printable ASCII characters",
        )
    return key


class KeyCheck:
    """An application that passes on only requests with the key, sent as a bearer token."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._expected = app, f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it with status 401."""
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            given = Headers(scope=scope).get("authorization", "").encode(errors="replace")
            if not hmac.compare_digest(given, self._expected):
                fault = RequestError("API key missing or wrong", status=401, code="invalid_api_key")
                headers = {"WWW-Authenticate": "Bearer"}
                await JSONResponse(error_body(fault), status_code=401, headers=headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)
