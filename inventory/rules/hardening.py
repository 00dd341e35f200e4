"""What must hold for the section `hardening` of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.finding import Finding, Rule, from_verdict
from inventory.model import Inventory
from inventory.values import check_address


def hardening(inventory: Inventory) -> Iterator[Finding]:
    """Time servers can be asked, kernel settings and the banner are single texts that files can hold."""
    declared = inventory.hardening
    for index, server in enumerate(declared.time_servers):
        yield from from_verdict(("hardening", "time_servers", index), check_address(server))
    for key, value in declared.sysctl.items():
        if not value.strip() or any(ord(letter) < 32 for letter in value):
            yield Finding(
                (("hardening", "sysctl", key),),
                f"`{key}` is given no value that the kernel could take",
                'write it in quotes on one line, such as "1"',
            )
    if any(ord(letter) < 32 and letter != "\n" for letter in declared.banner):
        yield Finding(
            (("hardening", "banner"),), "the banner has control characters in it", "write plain text"
        )


RULES: tuple[Rule, ...] = (hardening,)
