"""A test's hand on a stand-in: the control interface as Python calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

import httpx

from tests.standins.plain_http import NO_TLS

Seen = TypeVar("Seen")


class Control:
    """Calls `/_control/…` of the stand-in at `base_url`; a refused call raises `RuntimeError`."""

    def __init__(self, base_url: str, **query: str) -> None:
        self.base_url = base_url
        self._query = query
        self._client = httpx.Client(base_url=base_url, timeout=60, trust_env=False, verify=NO_TLS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self._client.close()

    def get(self, name: str, **query: str) -> Any:
        """Read `/_control/<name>`."""
        return self._answer(self._client.get(f"/_control/{name}", params=self._query | query))

    def post(self, name: str, **body: Any) -> Any:
        """Post to `/_control/<name>`; a field that is a keyword of Python may end with an underscore."""
        given = {key.rstrip("_"): value for key, value in body.items()}
        return self._answer(self._client.post(f"/_control/{name}", params=self._query, json=given))

    def forget_faults(self) -> None:
        """Remove all requested faults."""
        self._answer(self._client.delete("/_control/faults"))

    def eventually(self, look: Callable[[], Seen], seconds: float = 10.0) -> Seen:
        """Return what `look` returns once it is not empty. Raise `TimeoutError` when it stays empty."""
        deadline = time.monotonic() + seconds
        while not (seen := look()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing to be seen within {seconds} s")
            time.sleep(0.05)
        return seen

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        if response.is_error:
            raise RuntimeError(f"{response.status_code}: {response.text}")
        return response.json()
