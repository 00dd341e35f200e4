"""Settings of what is turned off, or replaced by something else: they would do nothing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from inventory.model import Inventory
from inventory.reading.source import KeyPath, dotted
from inventory.rule_findings import InventoryFinding, InventoryRule


@dataclass(frozen=True, slots=True)
class Switch:
    """A setting by which others of `section` do nothing: `keys`, or all but the switch itself.

    `why` they do nothing, and the `remedy` that turns them on, stand in the message.
    """

    at: KeyPath
    is_off: Callable[[Inventory], bool]
    section: KeyPath
    why: str
    remedy: str
    keys: tuple[str, ...] = ()
    is_used: Mapping[str, Callable[[Inventory], bool]] = field(default_factory=dict)
    """When something else uses a key of the section even so."""


def _off(
    *section: str,
    keys: tuple[str, ...] = (),
    of: KeyPath = (),
    is_used: Mapping[str, Callable[[Inventory], bool]] | None = None,
) -> Switch:
    """Return the switch `enabled: false` of a section, for its own settings or `keys` of another one."""
    at: KeyPath = (*section, "enabled")
    return Switch(
        at,
        lambda inventory: _value(inventory, at) is False,
        of or section,
        f"`{dotted(at)}` is false",
        f"write `{dotted(at)}: true`",
        keys,
        is_used or {},
    )


def _has_fail2ban(inventory: Inventory) -> bool:
    return inventory.hardening.enabled and inventory.hardening.fail2ban.enabled


SWITCHES = (
    # fail2ban never bans the networks of `firewall.management`.
    _off("firewall", is_used={"management": _has_fail2ban}),
    _off("firewall", keys=("connections",), of=("nginx",)),
    _off("hardening"),
    _off("hardening", "fail2ban"),
    _off("hardening", "updates"),
    _off("docker"),
    Switch(
        ("docker", "source"),
        lambda inventory: inventory.docker.source == "distribution",
        ("docker",),
        "`docker.source: distribution` uses no other repository",
        "write `docker.source: docker`",
        ("repository", "key"),
    ),
    Switch(
        ("docker", "proxy"),
        lambda inventory: inventory.docker.proxy is None,
        ("docker",),
        "there is no `docker.proxy`",
        "add `docker.proxy:`",
        ("no_proxy",),
    ),
    Switch(
        ("tls", "mode"),
        lambda inventory: inventory.tls.mode != "acme",
        ("tls",),
        "`tls.mode` is not acme",
        "write `tls.mode: acme`",
        ("acme",),
    ),
    Switch(
        ("tls", "acme", "challenge"),
        lambda inventory: inventory.tls.mode == "acme" and inventory.tls.acme.challenge != "dns-01",
        ("tls", "acme"),
        "`tls.acme.challenge` is not dns-01",
        "write `tls.acme.challenge: dns-01`",
        ("dns",),
    ),
    Switch(
        ("tls", "mode"),
        lambda inventory: inventory.tls.mode != "provided",
        ("tls",),
        "`tls.mode` is not provided",
        "write `tls.mode: provided`",
        ("provided",),
    ),
    Switch(
        ("database", "url"),
        lambda inventory: inventory.database is not None and inventory.database.url is not None,
        ("database",),
        "`database.url` names a database elsewhere",
        "remove `database.url`",
        ("memory", "backups"),
    ),
    Switch(
        ("logs", "packages", "folder"),
        lambda inventory: inventory.logs.packages.folder is not None,
        ("logs", "packages"),
        "the packages are those of `logs.packages.folder`",
        "remove `logs.packages.folder`",
        ("mirror", "key", "fingerprint", "proxy"),
    ),
    Switch(
        ("monitoring", "grafana", "package"),
        lambda inventory: _value(inventory, ("monitoring", "grafana", "package")) is not None,
        ("monitoring", "grafana"),
        "`monitoring.grafana.package` is installed instead",
        "remove `monitoring.grafana.package`",
        ("repository", "key"),
    ),
)


def without_effect(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding for each declared setting without effect."""
    found: set[KeyPath] = set()
    for switch in SWITCHES:
        section = _value(inventory, switch.section)
        if not isinstance(section, BaseModel) or not switch.is_off(inventory):
            continue
        for key in switch.keys or type(section).model_fields:
            path: KeyPath = (*switch.section, key)
            if key in switch.is_used and switch.is_used[key](inventory):
                continue
            within = any(path[: len(other)] == other for other in found)
            if path != switch.at and not within and _is_given(section, key):
                found.add(path)
                yield InventoryFinding(
                    (path,),
                    f"`{dotted(path)}` has no effect: {switch.why}",
                    f"remove it, or {switch.remedy}",
                    (switch.at,),
                )


def _is_given(section: BaseModel, key: str) -> bool:
    """Return whether a file declares `key`, and not what it is without."""
    field = type(section).model_fields[key]
    return key in section.model_fields_set and getattr(section, key) != field.get_default()


def _value(inventory: Inventory, path: KeyPath) -> object:
    value: object = inventory
    for key in path:
        value = getattr(value, str(key), None)
    return value


RULES: tuple[InventoryRule, ...] = (without_effect,)
