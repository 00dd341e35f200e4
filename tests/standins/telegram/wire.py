"""What a call to the Bot API carries, whichever way it is sent.

Query string, JSON, form and multipart mean the same: named strings, and files.
Source: core.telegram.org/bots/api#making-requests.
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request


class ApiError(Exception):
    """What the Bot API answers when it refuses; `code` is the HTTP status too."""

    def __init__(self, code: int, description: str, *, retry_after: int | None = None) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.retry_after = retry_after

    @classmethod
    def flood(cls, seconds: int) -> ApiError:
        """Return 429 with the time to wait."""
        return cls(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)

    def body(self) -> dict[str, Any]:
        """Return the JSON of the answer."""
        parameters = {"parameters": {"retry_after": self.retry_after}} if self.retry_after else {}
        return {"ok": False, "error_code": self.code, "description": self.description, **parameters}


@dataclass(frozen=True)
class Call:
    """One call: lower-case `method`, `params` as text, uploaded `files`."""

    method: str
    params: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return the parameter, or an empty string."""
        return self.params.get(name, "")

    def integer(self, name: str, default: int = 0) -> int:
        """Return the parameter as a number, or `default` if it is none, as the platform does."""
        try:
            return int(self.params[name])
        except (KeyError, ValueError):
            return default

    def flag(self, name: str) -> bool:
        """Return the parameter as a boolean."""
        return self.text(name).lower() in {"true", "yes", "1"}

    def json(self, name: str) -> Any:
        """Return the parameter parsed as JSON, `None` when absent."""
        if not self.text(name):
            return None
        try:
            return json.loads(self.text(name))
        except ValueError:
            raise ApiError(400, f"Bad Request: can't parse {name} JSON object") from None

    def file(self, name: str) -> bytes | None:
        """Return the uploaded file of that name, directly or as `attach://<part>`."""
        attached = self.text(name).removeprefix("attach://")
        return self.files.get(name) or (self.files.get(attached) if attached else None)


async def read_call(request: Request, method: str) -> Call:
    """Parse the call of `request`."""
    params = dict(request.query_params)
    files: dict[str, bytes] = {}
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" and body:
        params |= _json_params(body)
    elif kind == "application/x-www-form-urlencoded":
        params |= dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True))
    elif kind == "multipart/form-data":
        more, files = _multipart(request.headers["content-type"], body)
        params |= more
    return Call((method or params.get("method", "")).lower(), params, files)


def _json_params(body: bytes) -> dict[str, str]:
    try:
        given = json.loads(body)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise ApiError(400, "Bad Request: can't parse JSON object")
    return as_params(given)


def as_params(given: dict[str, Any]) -> dict[str, str]:
    """Return the parameters of a call as JSON values."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in given.items()
        if value is not None
    }


def _multipart(content_type: str, body: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    if not message.is_multipart():
        raise ApiError(400, "Bad Request: can't parse multipart form data")
    params, files = {}, {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(payload, bytes):
            continue
        if part.get_filename():
            files[name] = payload
        else:
            params[name] = payload.decode()
    return params, files
