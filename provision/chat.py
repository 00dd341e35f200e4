"""Chat with a deployed bot from the laptop, over its console channel."""

from __future__ import annotations

import json
import os
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import jwt
import requests
from httpx_sse import EventSource, ServerSentEvent

from deploys.tls.authority import trusted_certificate
from deploys.topology.addresses import host_and_port
from deploys.topology.bots import public_name
from inventory.errors import ClawdError, ConnectError
from inventory.load import LoadedInventory

TOKEN_LIFETIME_S = 300
# The laptop's clock may be fast, and the bot refuses tokens that begin in the future.
CLOCK_DIFFERENCE_S = 120
REPLY_TIMEOUT_S = 180
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")


@dataclass(frozen=True, slots=True)
class ConsoleEndpoint:
    """The address of a bot's console, and the secret for authentication.

    `authority` is the PEM file of the certificate authority; `None` uses the laptop's own trust store.
    """

    url: str
    secret: str = field(repr=False)
    authority: Path | None
    host: str

    @property
    def page(self) -> str:
        """The address of the page in the browser."""
        return self.url.removesuffix("v1/messages").replace(":443/console/", "/console/")


def console_of(loaded: LoadedInventory) -> ConsoleEndpoint:
    """Return the console of an inventory's bot, at its first nginx host.

    Its URL has the first name of the certificate that is not a wildcard, else the host's address. Raises
    `ClawdError` when the inventory declares no console or no nginx.
    """
    declared = loaded.inventory.channels.console
    fronts = loaded.inventory.with_role("nginx")
    if declared is None or not fronts:
        raise ClawdError(
            f"{loaded.path}: the bot has no console",
            advice="declare `channels.console.jwt_secret`, and give a host the role nginx",
        )
    front = next(iter(fronts))
    place = host_and_port(public_name(loaded.inventory, front), loaded.inventory.nginx.https_port)
    return ConsoleEndpoint(
        url=f"https://{place}/console/v1/messages",
        secret=declared.jwt_secret.get_secret_value(),
        authority=trusted_certificate(loaded.state_folder, loaded.inventory.tls, front),
        host=front,
    )


def token_for(user: str, secret: str, now: float) -> str:
    """Return a token for `user` at the console, valid from `now` on (seconds since the epoch)."""
    begins = int(now) - CLOCK_DIFFERENCE_S
    claims = {"sub": user, "iat": begins, "exp": int(now) + TOKEN_LIFETIME_S, "jti": str(uuid.uuid4())}
    return jwt.encode(claims, secret, algorithm="HS256")


def ask(
    console: ConsoleEndpoint,
    text: str,
    *,
    user: str,
    conversation: str,
    waiting: Callable[[str], None] = lambda notice: None,
) -> Iterator[str]:
    """Send a message and yield the answer piece by piece; `waiting` receives a notice when it is queued.

    Raises `ConnectError` when the bot does not answer, `ClawdError` when it refuses or fails.
    """
    token = token_for(user, console.secret, time.time())
    body = {"text": text, "conversation": conversation, "id": str(uuid.uuid4())}
    context = _trusting(console.authority)
    try:
        with (
            _client(context) as client,
            client.stream(
                "POST", console.url, json=body, headers={"Authorization": f"Bearer {token}"}
            ) as answer,
        ):
            if answer.status_code == 401:
                raise ClawdError(
                    f"{console.host}: authentication failed: the bot does not accept the token",
                    advice="run `up` if the secret of the console was changed, and compare the clocks of "
                    "laptop and host",
                )
            if answer.status_code != 200:
                answer.read()
                raise ClawdError(
                    f"{console.host}: the bot refused ({answer.status_code}): "
                    f"{(_text_of(answer.text, 'message') or answer.text).strip()[:200]}",
                    advice=_text_of(answer.text, "hint") or "run `clawd-provision verify` to find the cause",
                )
            yield from _pieces(console, EventSource(answer).iter_sse(), waiting)
    except httpx.HTTPError as error:
        if (proxy := _proxy_of(console.url)) and _is_of_the_proxy(error):
            raise ConnectError(
                f"{console.host}: the proxy {proxy} cannot connect to {console.url} ({error})",
                advice="check that it runs and accepts your connection, unset the variable, or add the bot's "
                "host to NO_PROXY",
            ) from error
        raise ConnectError(
            f"{console.host}: the bot does not answer at {console.url} ({error})",
            advice="run `clawd-provision verify`, or `up` if the bot was never deployed",
        ) from error


def _trusting(authority: Path | None) -> ssl.SSLContext:
    """Return the TLS settings for a server whose certificate was issued by the PEM file `authority`."""
    try:
        return ssl.create_default_context(cafile=str(authority) if authority else None)
    except OSError as error:  # also `ssl.SSLError`, where the file holds no certificate
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ClawdError(
            f"cannot read {authority}: {reason}",
            advice="restore it from a backup, or copy the folder .clawd from where `up` ran",
        ) from error


def _proxy_of(url: str) -> str | None:
    """Return the proxy of the environment for `url`, with its variable and without its login."""
    proxies = requests.utils.get_environ_proxies(url)
    for scheme in (urlsplit(url).scheme, "all"):
        if given := proxies.get(scheme):
            parts = urlsplit(given if "://" in given else f"http://{given}")
            place = parts.netloc.rpartition("@")[2]
            return f"{parts.scheme}://{place} of {scheme.upper()}_PROXY"
    return None


def _is_of_the_proxy(error: httpx.HTTPError) -> bool:
    """Return whether a connection through a proxy ended before it reached the server.

    What fails within TLS has reached the server.
    """
    of_tls = any(isinstance(cause, ssl.SSLError) for cause in _causes(error)) or "[SSL" in str(error)
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError) and not of_tls


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _client(context: ssl.SSLContext) -> httpx.Client:
    """Return a client that uses the proxy of the environment, if there is one.

    Raises `ClawdError` for a proxy that it cannot use.
    """
    try:
        return httpx.Client(verify=context, timeout=httpx.Timeout(REPLY_TIMEOUT_S, connect=10))
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        named = [name for name in PROXIES if os.environ.get(name) or os.environ.get(name.lower())]
        raise ClawdError(
            f"cannot use the proxy of {' or '.join(named) or 'the environment'}: {_plain(error)}",
            advice="use an HTTP proxy, unset the variable, or add the bot's host to NO_PROXY",
        ) from error


def _plain(error: Exception) -> str:
    # The message of httpx may contain a part of a password that it parsed as a port.
    return "SOCKS is not supported" if isinstance(error, ImportError) else "it is not the address of one"


def _pieces(
    console: ConsoleEndpoint,
    events: Iterator[ServerSentEvent],
    waiting: Callable[[str], None] = lambda notice: None,
) -> Iterator[str]:
    """Yield the text of the `delta` events, and after `done` the rest that they did not contain.

    Raises `ClawdError` on `error`, `ConnectError` when the stream ends before that.
    """
    shown = ""
    for event in events:
        text = _text_of(event.data, "message" if event.event == "error" else "text")
        if text is None:
            break
        if event.event == "error":
            hint = _text_of(event.data, "hint") or "send the message again"
            raise ClawdError(f"{console.host}: {text}", advice=hint)
        if event.event == "done":
            yield from _remainder(shown, text)
            return
        if event.event == "waiting":
            waiting(text)
        if event.event == "delta":
            shown += text
            yield text
    raise ConnectError(
        f"{console.host}: the answer is incomplete: the connection ended",
        advice="send the message again; the bot keeps the conversation",
    )


def _text_of(data: str, key: str) -> str | None:
    """Return the text under `key` of JSON; `None` when it has another form."""
    try:
        value = json.loads(data)[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if isinstance(value, str) else None


def _remainder(shown: str, whole: str) -> Iterator[str]:
    if whole.startswith(shown):
        if rest := whole[len(shown) :]:
            yield rest
    else:
        yield f"\n{whole}"
