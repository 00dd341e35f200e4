"""Checks of a certificate that the user provides, before any host is touched.

No message contains a part of the key.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from inventory.addresses import is_address
from inventory.model import Inventory
from inventory.reading.source import KeyPath
from inventory.rule_findings import InventoryFinding

CERTIFICATE: KeyPath = ("tls", "provided", "certificate")
KEY: KeyPath = ("tls", "provided", "key")


def provided(inventory: Inventory, now: datetime | None = None) -> Iterator[InventoryFinding]:
    """Yield findings unless the provided certificate matches its key, is valid now and covers the names."""
    pair = inventory.tls.provided
    if inventory.tls.mode != "provided" or pair is None:
        return
    try:
        leaf, *chain = x509.load_pem_x509_certificates(pair.certificate.get_secret_value().encode())
    except ValueError:
        yield InventoryFinding((CERTIFICATE,), "this is not a certificate in PEM", "give the chain as issued")
        return
    yield from _key(leaf, pair.key.get_secret_value())
    yield from _time(leaf, now or datetime.now(UTC))
    yield from _names(leaf, inventory)
    for below, above in zip((leaf, *chain), chain, strict=False):
        if below.issuer != above.subject:
            yield InventoryFinding(
                (CERTIFICATE,),
                f"the certificate after {below.subject.rfc4514_string()} in the chain is not its issuer",
                "give the host's own certificate first, then each that signed the one before",
            )
            break


def _key(leaf: x509.Certificate, text: str) -> Iterator[InventoryFinding]:
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except TypeError:
        yield InventoryFinding((KEY,), "this key has a passphrase", "remove it with `openssl pkey`")
        return
    except (ValueError, UnsupportedAlgorithm):
        yield InventoryFinding((KEY,), "this is not a private key in PEM", "give the key of the certificate")
        return
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        yield InventoryFinding(
            (KEY, CERTIFICATE), "this key does not belong to the certificate", "give a matching pair"
        )


def _time(leaf: x509.Certificate, now: datetime) -> Iterator[InventoryFinding]:
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now >= end:
        yield InventoryFinding(
            (CERTIFICATE,), f"this certificate expired on {end:%Y-%m-%d}", "provide a renewed one"
        )
    elif now < begin:
        yield InventoryFinding(
            (CERTIFICATE,),
            f"this certificate is not valid before {begin:%Y-%m-%d %H:%M} UTC",
            "wait until then, or correct the clock of this machine",
        )


def _names(leaf: x509.Certificate, inventory: Inventory) -> Iterator[InventoryFinding]:
    fronts = inventory.with_role("nginx").values()
    wanted = inventory.tls.names or tuple(host.address for host in fronts)
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        dns, addresses = set[str](), set[str]()
    else:
        dns = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
        addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    for index, name in enumerate(wanted):
        if is_address(name):
            covered = str(ip_address(name)) in addresses
        else:
            plain = name.lower() if name.isascii() else name.lower().encode("idna").decode()
            covered = plain in dns or f"*.{plain.partition('.')[2]}" in dns
        if not covered:
            yield InventoryFinding(
                (("tls", "names", index), CERTIFICATE) if inventory.tls.names else (CERTIFICATE,),
                f"the provided certificate does not cover {name}",
                "provide one that does, or write `tls.names` as in the certificate",
                (("hosts", "*", "address"),),
            )
