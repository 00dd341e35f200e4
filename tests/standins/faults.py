"""Faults that a test orders: slow answers, wrong answers, answers that get lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send


@dataclass
class Fault:
    """What happens to the next `times` calls whose name ends with `match` (case does not count).

    `delay`   seconds before anything else
    `status`  answered instead of doing what was asked, with `body` and `headers`
    `drop`    "before": the connection breaks and nothing is done; "after": it is done, the answer gets lost
    """

    match: str
    times: int = 1
    delay: float = 0.0
    status: int | None = None
    body: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: Literal["before", "after"] | None = None

    @classmethod
    def parse(cls, given: dict[str, Any]) -> Fault:
        """Parse a request of the control interface. Raise `ValueError` for an unknown field."""
        known = {each.name for each in fields(cls)}
        if unknown := set(given) - known:
            raise ValueError(f"unknown fields {sorted(unknown)}; a fault has {sorted(known)}")
        return cls(**given)


class Broken(Response):
    """An answer that announces more bytes than come: the client sees the connection break."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"1000"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


class Faults:
    """The ordered faults, first come first served."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Add a fault."""
        self._waiting.append(fault)

    def clear(self) -> None:
        """Remove all faults."""
        self._waiting.clear()

    def _take(self, name: str) -> Fault | None:
        for fault in self._waiting:
            if name.lower().endswith(fault.match.lower()):
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
                return fault
        return None

    async def around(self, name: str, act: Callable[[], Awaitable[Response]]) -> Response:
        """Answer the call `name` with `act`, unless a fault applies."""
        fault = self._take(name)
        if fault is None:
            return await act()
        await asyncio.sleep(fault.delay)
        if fault.drop == "before":
            return Broken()
        if fault.status is not None:
            return JSONResponse(fault.body or {}, fault.status, headers=fault.headers)
        answer = await act()
        return Broken() if fault.drop == "after" else answer


async def faults_endpoint(faults: Faults, request: Request) -> Response:
    """Serve the control of faults: `POST` requests one, `DELETE` removes all."""
    if request.method == "DELETE":
        faults.clear()
        return JSONResponse({})
    try:
        faults.add(Fault.parse(await request.json()))
    except (TypeError, ValueError) as wrong:
        return JSONResponse({"error": str(wrong)}, 400)
    return JSONResponse({})
