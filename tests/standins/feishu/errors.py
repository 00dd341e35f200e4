"""What the platform answers when it refuses."""

from __future__ import annotations

import secrets
from typing import Any


class ApiError(Exception):
    """What the platform answers when it refuses: its `code`, and the HTTP `status`."""

    def __init__(
        self, code: int, msg: str, *, status: int = 400, headers: dict[str, str] | None = None, **error: Any
    ) -> None:
        super().__init__(msg)
        self.code = code
        self.status = status
        self.headers = headers or {}
        self.error = error

    def body(self) -> dict[str, Any]:
        """Return the JSON of the answer."""
        body: dict[str, Any] = {"code": self.code, "msg": str(self)}
        if self.status != 200:
            body["error"] = {"log_id": secrets.token_hex(16).upper(), **self.error}
        return body
