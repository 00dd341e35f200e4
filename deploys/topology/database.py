"""Which host has the PostgreSQL that bots share, which hosts connect to it, and by which URL."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from deploys.topology.addresses import canonical, host_and_port
from deploys.topology.certificates import AUTHORITY
from inventory.model import Inventory
from inventory.rules.database import PORT

NAME = "clawd"
"""Name of the login, and of the one database that it owns."""
PUBLIC_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def has_database(inventory: Inventory, host: str) -> bool:
    """Return whether `host` has the PostgreSQL of the bots: false where `url` names one elsewhere."""
    database = inventory.database
    return database is not None and database.url is None and "database" in inventory.hosts[host].roles


def database_clients(inventory: Inventory, host: str) -> tuple[str, ...]:
    """Return the addresses of the other hosts whose bots connect to the PostgreSQL of `host`."""
    return tuple(inventory.internal(name) for name in inventory.with_role("runtime") if name != host)


def database_url(inventory: Inventory, bot: str) -> str | None:
    """Return the URL by which the bot of host `bot` reaches the shared database, without the password.

    `None` when there is none. The server's certificate is always checked, by the project's authority. For a
    database elsewhere that is left to `url`; where it does not mention TLS, the public authorities of the
    system are used.
    """
    declared = inventory.database
    if declared is None:
        return None
    if declared.url is not None:
        return _external(declared.url)
    server = next(iter(inventory.with_role("database")), None)
    if server is None:
        return None
    address = "127.0.0.1" if server == bot else canonical(inventory.internal(server))
    query = f"sslmode=verify-full&sslrootcert={AUTHORITY}"
    return f"postgresql+psycopg://{NAME}@{host_and_port(address, PORT)}/{NAME}?{query}"


def _external(url: str) -> str:
    rest = url.removeprefix("postgresql://")
    if "sslmode=" in urlsplit(url).query:
        return f"postgresql+psycopg://{rest}"
    joint = "&" if "?" in rest else "?"
    trusted = quote(PUBLIC_AUTHORITIES, safe="/")
    return f"postgresql+psycopg://{rest}{joint}sslmode=verify-full&sslrootcert={trusted}"
