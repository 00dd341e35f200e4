"""Talks to a deployed bot from the laptop, over its console channel."""

from __future__ import annotations

import json
import os
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import jwt

from deploys.tls.authority import trusted_certificate
from inventory.errors import ClawdError, ConnectError
from inventory.load import Loaded

TOKEN_LIFETIME_S = 300
# The clock here may be ahead of the bot's, which takes no token that begins in the future.
CLOCK_DIFFERENCE_S = 120
REPLY_TIMEOUT_S = 180
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")


@dataclass(frozen=True, slots=True)
class Console:
    """Where a bot's console is, and how to prove who asks.

    `authority` is the PEM file that its certificate must lead to; `None` trusts the laptop's own store.
    """

    url: str
    secret: str = field(repr=False)
    authority: Path | None
    host: str


def console_of(loaded: Loaded) -> Console:
    """The console of an inventory's bot, at its first nginx host.

    It is asked for by the first name of the certificate that is a host's (`*.domain` is none), else by
    the host's address.

    Raises `ClawdError` when the inventory declares no console or no nginx.
    """
    declared = loaded.inventory.channels.console
    fronts = loaded.inventory.with_role("nginx")
    if declared is None or not fronts:
        raise ClawdError(
            f"{loaded.path}: the bot has no console",
            advice="declare `channels.console.jwt_secret`, and give a host the role nginx",
        )
    name, host = next(iter(fronts.items()))
    public = next((given for given in loaded.inventory.tls.names if "*" not in given), host.address)
    bracketed = f"[{public}]" if ":" in public else public
    return Console(
        url=f"https://{bracketed}:{loaded.inventory.nginx.https_port}/console/v1/messages",
        secret=declared.jwt_secret.get_secret_value(),
        authority=trusted_certificate(loaded.state_folder, loaded.inventory.tls, name),
        host=name,
    )


def token_for(user: str, secret: str, now: float) -> str:
    """Return a token that names `user` to the console, valid from `now` (seconds since the epoch) on."""
    begins = int(now) - CLOCK_DIFFERENCE_S
    claims = {"sub": user, "iat": begins, "exp": int(now) + TOKEN_LIFETIME_S, "jti": str(uuid.uuid4())}
    return jwt.encode(claims, secret, algorithm="HS256")


def ask(
    console: Console,
    text: str,
    *,
    user: str,
    conversation: str,
    waiting: Callable[[str], None] = lambda notice: None,
) -> Iterator[str]:
    """Sends a message and yields the answer piece by piece; `waiting` gets a notice when others are ahead.

    Raises `ConnectError` when the bot does not answer, `ClawdError` when it refuses or fails.
    """
    token = token_for(user, console.secret, time.time())
    body = {"text": text, "conversation": conversation, "id": str(uuid.uuid4())}
    context = ssl.create_default_context(cafile=str(console.authority) if console.authority else None)
    try:
        with (
            _client(context) as client,
            client.stream(
                "POST", console.url, json=body, headers={"Authorization": f"Bearer {token}"}
            ) as answer,
        ):
            if answer.status_code == 401:
                raise ClawdError(
                    f"{console.host}: the bot does not believe who asks",
                    advice="its console has another secret than this inventory (`up` gives it this one), or "
                    "the clock here or there is wrong",
                )
            if answer.status_code != 200:
                answer.read()
                raise ClawdError(
                    f"{console.host}: the bot refused ({answer.status_code}): {answer.text.strip()[:200]}",
                    advice="run `clawd-provision verify` to see what is wrong there",
                )
            yield from _pieces(console, answer.iter_lines(), waiting)
    except httpx.HTTPError as error:
        raise ConnectError(
            f"{console.host}: the bot does not answer at {console.url} ({error})",
            advice="run `clawd-provision verify`, or `up` if it was never deployed",
        ) from error


def _client(context: ssl.SSLContext) -> httpx.Client:
    """Return a client that goes through the proxy of the environment, if there is one.

    Raises `ClawdError` for a proxy that it cannot use.
    """
    try:
        return httpx.Client(verify=context, timeout=httpx.Timeout(REPLY_TIMEOUT_S, connect=10))
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        named = [name for name in PROXIES if os.environ.get(name) or os.environ.get(name.lower())]
        raise ClawdError(
            f"the proxy of {' or '.join(named) or 'the environment'} cannot be used: {_plain(error)}",
            advice="give an HTTP proxy, unset the variable, or name the bot's host in NO_PROXY",
        ) from error


def _plain(error: Exception) -> str:
    return "SOCKS is not supported" if isinstance(error, ImportError) else str(error)


def _pieces(
    console: Console, lines: Iterator[str], waiting: Callable[[str], None] = lambda notice: None
) -> Iterator[str]:
    """The text of the `delta` events; after `done`, what they did not contain.

    Raises `ClawdError` on `error`, `ConnectError` when the stream ends before that.
    """
    shown = ""
    event = ""
    for line in lines:
        if line.startswith("event:"):
            event = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            try:
                data = json.loads(line.removeprefix("data:"))
            except ValueError:
                break
            if event == "error":
                raise ClawdError(f"{console.host}: {data['message']}")
            if event == "done":
                yield from _remainder(shown, data["text"])
                return
            if event == "waiting":
                waiting(data["text"])
            if event == "delta":
                shown += data["text"]
                yield data["text"]
    raise ConnectError(
        f"{console.host}: the answer broke off", advice="ask again; the bot keeps what was said"
    )


def _remainder(shown: str, whole: str) -> Iterator[str]:
    if whole.startswith(shown):
        if rest := whole[len(shown) :]:
            yield rest
    else:
        yield f"\n{whole}"
