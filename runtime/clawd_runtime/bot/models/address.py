"""The addresses of a model's server, derived from its endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit, urlunsplit

COMPLETIONS = "/chat/completions"
AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """The addresses of one server.

    `completions` accepts chat requests, `health` shows whether the server responds, `metrics` has the metrics
    of an engine on this host (`None` for other servers). `socket` is the path of its Unix socket, if it has
    one.
    """

    completions: str
    health: str
    metrics: str | None = None
    socket: str | None = None

    @property
    def local(self) -> bool:
        """Return whether it is an engine on this host."""
        return self.socket is not None

    def headers(self, api_key: str | None) -> dict[str, str]:
        """Return the headers with the key: `api-key` for Azure, a bearer token for other servers.

        A gateway whose address has an `api-version` may be either, and gets both.
        """
        if not api_key:
            return {}
        parts = urlsplit(self.completions)
        if (parts.hostname or "").endswith(AZURE_HOSTS):
            return {"api-key": api_key}
        bearer = {"Authorization": f"Bearer {api_key}"}
        versioned = any(name == "api-version" for name, _ in parse_qsl(parts.query))
        return bearer | {"api-key": api_key} if versioned else bearer


def model_address(name: str, endpoint: str) -> ModelAddress:
    """Return the addresses of the server at `endpoint`, whose model is called `name` in the settings.

    An endpoint is `unix:/path/of.sock`, or an address that ends before `/chat/completions`. Its query is
    kept.
    """
    if endpoint.startswith("unix:"):
        base = f"http://{host_of(name)}"
        return ModelAddress(
            f"{base}/v1{COMPLETIONS}", f"{base}/health", f"{base}/metrics", endpoint.removeprefix("unix:")
        )
    parts = urlsplit(endpoint)
    path = parts.path.rstrip("/").removesuffix(COMPLETIONS).rstrip("/")

    def at(end: str) -> str:
        return urlunsplit((parts.scheme, parts.netloc, path + end, parts.query, ""))

    return ModelAddress(at(COMPLETIONS), at("/models"))


def host_of(name: str) -> str:
    """Return the host name that the HTTP client uses for the socket of the model `name`."""
    return f"model-{name}.socket"
