"""The values of `inventory/example-prod.yml`, those in comments as well, by path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "inventory" / "example-prod.yml"
LINE = re.compile(
    r"^(?P<indent> *)(?P<comment># ?)?(?P<inner> *)(?P<item>- )?(?P<key>[A-Za-z0-9_.-]+):(?P<value> .*)?$"
)
HOSTS = re.compile(r"^hosts\.[^.]+")
ALIKE = (
    ("models.default.", "models.fallback."),
    ("models.fallback.", "models.default."),
    ("models.NAME.", "models.default."),
    ("models.NAME.", "models.fallback."),
    ("access.quotas.group.", "access.quotas.user."),
    ("access.quotas.users.NAME.", "access.quotas.user."),
    ("access.quotas.groups.NAME.", "access.quotas.user."),
    ("access.quotas.models.NAME.", "access.quotas.user."),
    ("nginx.limits.telegram.", "nginx.limits.console."),
    ("nginx.limits.feishu.", "nginx.limits.console."),
    ("nginx.limits.health.", "nginx.limits.console."),
)
"""Sections with the same settings, of which the file shows some in one only."""
ON_SEVERAL_LINES = {
    "base.operators[].keys": "[ssh-ed25519 AAAA… alice@example.com]",
    "bot.system_prompt": "You are the assistant of Example Ltd.",
    "docker.registry_login.user": "bots",
    "docker.registry_login.password": "!env REGISTRY_PASSWORD",
    "models.default.sha256": "64 hexadecimal digits",
    "tls.acme.dns.environment": "{ALICLOUD_ACCESS_KEY: !env ALICLOUD_ACCESS_KEY}",
}
"""Those that the file shows on more than one line, or in words."""


def values(settings: frozenset[str]) -> dict[str, str]:
    """Return an example of each of `settings`: the first that is no comment, else one that is.

    Raise `LookupError` for a setting that the file does not show.
    """
    found = dict(ON_SEVERAL_LINES)
    for in_comment in (False, True):
        for path, value, comment in _lines():
            if path in settings and value and comment is in_comment:
                found.setdefault(path, value)
    for setting in settings - found.keys():
        for here, there in ALIKE:
            if setting.startswith(here) and (other := found.get(setting.replace(here, there))):
                found[setting] = other
    if missing := sorted(settings - found.keys()):
        raise LookupError(f"inventory/example-prod.yml shows no value of {', '.join(missing)}")
    return found


def _lines() -> Iterator[tuple[str, str, bool]]:
    """Yield path, value and whether it stands in a comment, of every line that looks like a setting."""
    parents: list[tuple[int, str]] = []
    for line in FILE.read_text(encoding="utf-8").splitlines():
        match = LINE.match(line)
        if not match:
            continue
        comment = match["comment"] is not None
        column = len(match["indent"] + match["inner"] + (match["item"] or ""))
        value = (match["value"] or "").split("  #")[0].strip()
        inside = [(at, name) for at, name in parents if at < column]
        key = match["key"]
        item = match["item"] is not None
        names = [name for _, name in inside]
        if item and names:
            names[-1] = names[-1].removesuffix("[]") + "[]"
            inside[-1] = (inside[-1][0], names[-1])
        path = HOSTS.sub("hosts.NAME", ".".join((*names, key)))
        if not comment or not value or item:
            parents = [*inside, (column, key)]
        yield path, "" if value in ("|", ">") else value, comment
