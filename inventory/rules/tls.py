"""Rules for the section `tls` of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from inventory.addresses import is_address, is_local_name, is_public_name
from inventory.model import Inventory
from inventory.reading.source import KeyPath
from inventory.rule_findings import EVERY_ROLE, InventoryFinding, InventoryRule

ACME: KeyPath = ("tls", "acme")
DNS: KeyPath = (*ACME, "dns")
MODE: KeyPath = ("tls", "mode")


def acme(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when an ACME authority cannot issue the names, or the challenge cannot be answered."""
    declared = inventory.tls.acme
    if inventory.tls.mode != "acme":
        return
    if declared.email is None:
        yield InventoryFinding(
            (ACME, MODE),
            "`tls.acme` lacks `email`, which the account at the authority requires",
            "add `email:` with an address whose mail is read",
            ((*ACME, "email"),),
        )
    yield from _names(inventory)
    if declared.challenge == "http-01":
        yield from _http(inventory)
    else:
        yield from _dns(inventory)


def _names(inventory: Inventory) -> Iterator[InventoryFinding]:
    if not inventory.tls.names:
        for name, host in inventory.with_role("nginx").items():
            if is_address(host.address) or is_local_name(host.address):
                yield InventoryFinding(
                    (("tls", "names"), MODE),
                    f"`{name}` has only the address {host.address}, but ACME certificates are for public "
                    "names",
                    "add `names:` to `tls`, such as bot.example.com",
                )
    for index, name in enumerate(inventory.tls.names):
        if is_address(name):
            yield InventoryFinding(
                (("tls", "names", index),),
                f"{name} is an IP address, but ACME certificates are for names",
                "remove it, or write `mode: own-ca`",
                (MODE,),
            )
        elif is_local_name(name):
            yield InventoryFinding(
                (("tls", "names", index),),
                f"{name} is a local name: no authority can validate it",
                "write the public name of nginx, or `mode: own-ca`",
                (MODE,),
            )
        elif _of_lets_encrypt(inventory) and not is_public_name(name):
            yield InventoryFinding(
                (("tls", "names", index),),
                f"{name} is not a public name: Let's Encrypt does not sign it",
                "write a name below your own domain, such as bot.example.com, or `mode: own-ca`",
                (MODE, (*ACME, "server")),
            )


def _of_lets_encrypt(inventory: Inventory) -> bool:
    server = urlsplit(inventory.tls.acme.server).hostname or ""
    return f".{server}".endswith(".letsencrypt.org")


def _http(inventory: Inventory) -> Iterator[InventoryFinding]:
    wildcards = [name for name in inventory.tls.names if name.startswith("*")]
    if wildcards:
        yield InventoryFinding(
            (("tls", "names", inventory.tls.names.index(wildcards[0])), ("tls", "names")),
            f"{wildcards[0]} cannot be validated by http-01",
            "write `challenge: dns-01` in `tls.acme`",
            ((*ACME, "challenge"), MODE),
        )
    fronts = inventory.with_role("nginx")
    if inventory.tls.names and len(fronts) > 1:
        yield InventoryFinding(
            ((*ACME, "challenge"), ACME, MODE),
            f"{', '.join(fronts)} share names: the authority may send the challenge of one to another",
            "write `challenge: dns-01`, or remove `tls.names` so that each host has its own name",
            (("tls", "names"), EVERY_ROLE),
        )


def _dns(inventory: Inventory) -> Iterator[InventoryFinding]:
    dns = inventory.tls.acme.dns
    if dns.provider == "exec" and dns.hook is None:
        yield InventoryFinding(
            (DNS, ACME),
            "`tls.acme.dns` lacks `hook`, the program that creates the record",
            "add `hook:`, or a `provider:` of https://go-acme.github.io/lego/dns",
            ((*DNS, "hook"), (*DNS, "provider")),
        )
    if dns.provider != "exec" and dns.hook is not None:
        yield InventoryFinding(
            ((*DNS, "hook"),),
            f"the provider {dns.provider} uses no hook",
            "remove the hook, or write `provider: exec`",
            ((*DNS, "provider"),),
        )


def provided(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when the certificate to install is missing."""
    if inventory.tls.mode == "provided" and inventory.tls.provided is None:
        yield InventoryFinding(
            (MODE,),
            "`tls` lacks `provided`, the certificate and its key",
            "add `provided:` with `certificate: !file …` and `key: !file …`",
            (("tls", "provided"),),
        )


RULES: tuple[InventoryRule, ...] = (acme, provided)
