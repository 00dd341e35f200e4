"""The HTTP client of guard models."""

from __future__ import annotations

from typing import Annotated

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clawd_runtime.bot.models.address import model_address
from clawd_runtime.bot.policy.classifier import ClassifierUnavailable
from clawd_runtime.bot.policy.file import ClassifierPart

CREDENTIAL = "classifier-api-key"
MOST_TOKENS = 64
LARGEST_ANSWER = 256 * 1024


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore")
    content: str


class _Choice(BaseModel):
    model_config = ConfigDict(extra="ignore")
    message: _Message


class _Completion(BaseModel):
    model_config = ConfigDict(extra="ignore")
    choices: Annotated[list[_Choice], Field(min_length=1)]


class HttpGuardModel:
    """Asks guard models by the OpenAI chat protocol; connections are kept per endpoint."""

    def __init__(self, http: httpx.AsyncClient, api_key: str | None) -> None:
        self._http = http
        self._api_key = api_key
        self._sockets: dict[str, httpx.AsyncClient] = {}

    async def ask(self, settings: ClassifierPart, text: str) -> str:
        """See `classifier.GuardModel`."""
        address = model_address("classifier", settings.endpoint)
        client = self._http if address.socket is None else self._over(address.socket)
        body = {
            "model": settings.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": MOST_TOKENS,
            "temperature": 0,
            "stream": False,
        }
        try:
            response = await client.post(
                address.completions,
                json=body,
                headers=address.headers(self._api_key),
                timeout=settings.seconds,
            )
        except httpx.HTTPError as fault:
            raise ClassifierUnavailable(type(fault).__name__) from None
        return _answer(response)

    async def close(self) -> None:
        """Close the connections to sockets."""
        for client in self._sockets.values():
            await client.aclose()

    def _over(self, socket: str) -> httpx.AsyncClient:
        if socket not in self._sockets:
            self._sockets[socket] = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket))
        return self._sockets[socket]


def _answer(response: httpx.Response) -> str:
    if response.status_code != 200:
        raise ClassifierUnavailable(f"HTTP {response.status_code}")
    if len(response.content) > LARGEST_ANSWER:
        raise ClassifierUnavailable("its answer is too large")
    try:
        completion = _Completion.model_validate_json(response.content)
    except ValidationError:
        raise ClassifierUnavailable("its answer is no chat completion") from None
    return completion.choices[0].message.content
