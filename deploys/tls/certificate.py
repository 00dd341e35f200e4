"""Certificates as values: whether an installed one is still valid, and new ones.

X.509 as profiled by RFC 5280. Keys are ECDSA P-256, which every current TLS client accepts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploys.tls.settings import ProvidedSettings, TlsSettings

CLOCK_SKEW = timedelta(minutes=5)
"""New certificates are valid from this long ago, for slow clocks."""
AUTHORITY_LIFETIME = timedelta(days=3650)
OTHER_AUTHORITY = "another authority signed it"
"""Reason to replace a certificate of an earlier authority."""
ALWAYS_PERMITTED = ("clawd.internal", "localhost", "127.0.0.1", "::1")
"""Names that every authority with name constraints may sign for, in addition to those of the project."""


@dataclass(frozen=True, slots=True)
class Installed:
    """The certificate of a host: chain in PEM, SHA-256 of its private key's public half, and the key's mode.

    `source` is the ACME server that issued it, empty for others.
    """

    chain: bytes = b""
    public_key_sha256: str = ""
    key_mode: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """Return the certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """Return the private key in PEM (PKCS #8), not encrypted. Secret."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def __repr__(self) -> str:
        """Return the subject, without the key."""
        return f"KeyPair({self.certificate.subject.rfc4514_string()})"


def reason_to_issue(
    installed: Installed, wanted: TlsSettings, authority: x509.Certificate | None, now: datetime
) -> str | None:
    """Return why a host needs a new certificate, in words; `None` when it does not.

    `authority` is the certificate of the project's own authority, `None` while there is none.
    """
    if not installed.chain:
        return "there is none"
    try:
        leaf = x509.load_pem_x509_certificates(installed.chain)[0]
    except ValueError:
        return "the present one cannot be read"
    checks = (
        _wrong_key(installed, leaf),
        _another_than_provided(leaf, wanted) if wanted.provided else _wrong_names(leaf, wanted),
        _wrong_issuer(installed, leaf, wanted, authority),
        _renewed_issuer(installed, wanted, authority),
        _wrong_time(leaf, wanted, now),
    )
    return next((reason for reason in checks if reason), None)


def _wrong_key(installed: Installed, leaf: x509.Certificate) -> str | None:
    if installed.public_key_sha256 != public_key_sha256(leaf):
        return "its private key is missing or does not match"
    return None if installed.key_mode == "600" else "its private key could be read by others"


def common_name(wanted: TlsSettings) -> str:
    """Return the subject of a certificate, at most 64 characters long (RFC 5280, ub-common-name)."""
    return (wanted.subject or wanted.names[0])[:64]


def _wrong_names(leaf: x509.Certificate, wanted: TlsSettings) -> str | None:
    if wanted.subject and leaf.subject != _name(common_name(wanted)):
        return f"the present one is of {leaf.subject.rfc4514_string()}"
    names = names_of(leaf)
    return (
        None
        if names == set(wanted.names)
        else f"the present one is for {', '.join(sorted(names)) or 'no name'}"
    )


def _another_than_provided(leaf: x509.Certificate, wanted: TlsSettings) -> str | None:
    return "another one is provided" if wanted.provided and leaf != leaf_of(wanted.provided) else None


def _wrong_issuer(
    installed: Installed, leaf: x509.Certificate, wanted: TlsSettings, authority: x509.Certificate | None
) -> str | None:
    if wanted.mode == "provided":
        return None
    if wanted.acme:
        return None if installed.source == wanted.acme.server else "the present one is from elsewhere"
    issuer = leaf if wanted.mode == "self-signed" else authority
    if issuer is not None and _issued_by(leaf, issuer):
        return None
    return "the present one is not self-signed" if wanted.mode == "self-signed" else OTHER_AUTHORITY


def signed_by(chain: bytes, authority: x509.Certificate) -> bool:
    """Return whether `authority` signed the first certificate of a chain in PEM; not if it cannot be read."""
    try:
        return _issued_by(x509.load_pem_x509_certificates(chain)[0], authority)
    except ValueError:
        return False


def _issued_by(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):  # another key, another name, another kind of key
        return False
    return True


def _renewed_issuer(
    installed: Installed, wanted: TlsSettings, authority: x509.Certificate | None
) -> str | None:
    """Return a reason if the chain has an older certificate of the authority: peers need the current one."""
    chain = x509.load_pem_x509_certificates(installed.chain)
    signed_by = chain[1:]
    renewed = wanted.mode == "own-ca" and signed_by and authority is not None and authority not in signed_by
    return "the authority's certificate was renewed" if renewed else None


def _wrong_time(leaf: x509.Certificate, wanted: TlsSettings, now: datetime) -> str | None:
    start, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now < start:
        return f"the present one is valid only from {start:%Y-%m-%d %H:%M}"
    if now >= end:
        return f"it expired on {end:%Y-%m-%d}"
    if wanted.provided:
        return None
    if end - now < _left_at_renewal(wanted) * (end - start):
        return f"it expires on {end:%Y-%m-%d}"
    if wanted.mode != "acme" and end - start > timedelta(days=wanted.lifetime_days) + 2 * CLOCK_SKEW:
        return f"it is valid for longer than {wanted.lifetime_days} days"
    return None


def _left_at_renewal(wanted: TlsSettings) -> float:
    """Return the fraction of the lifetime that is left when `up` renews a certificate.

    With ACME the host itself renews earlier; if it is late, the failure must be reported.
    """
    return wanted.renew_fraction / 2 if wanted.mode == "acme" else wanted.renew_fraction


def leaf_of(provided: ProvidedSettings) -> x509.Certificate:
    """Return the host's own certificate of a provided chain."""
    return x509.load_pem_x509_certificates(provided.certificate.get_secret_value().encode())[0]


def names_of(certificate: x509.Certificate) -> set[str]:
    """Return the DNS names and IP addresses of a certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return {*names.get_values_for_type(x509.DNSName), *addresses}


def public_key_sha256(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's public key (SubjectPublicKeyInfo in DER)."""
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()


def new_authority(project: str, now: datetime, names: Iterable[str] = ()) -> KeyPair:
    """Return a certificate authority that may sign servers' certificates, and no further authorities.

    With `names` (DNS names, addresses) it may sign only for these and for names below them in the DNS: its
    stolen key cannot be used to impersonate others (RFC 5280, section 4.2.1.10).
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = authority_name(project)
    builder = _builder(name, name, key, now, AUTHORITY_LIFETIME)
    return KeyPair(_constrained(builder, names).sign(key, hashes.SHA256()), key)


def widened(authority: KeyPair, names: Iterable[str]) -> KeyPair:
    """Return `authority` with a certificate that also permits `names`: key, subject and expiry are the same.

    Certificates that it has signed stay valid. Clients need the new certificate only for the new names.
    """
    old = authority.certificate
    ours = permitted(old) or ()
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(authority.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority.key.public_key()), critical=False)
    )
    certificate = _constrained(builder, (*ours, *names)).sign(authority.key, hashes.SHA256())
    return KeyPair(certificate, authority.key)


def covers(authority: x509.Certificate, names: Iterable[str]) -> bool:
    """Return whether `authority` may sign for all of `names`; one without name constraints may for any."""
    own = permitted(authority)
    return own is None or all(_within(name, own) for name in names)


def permitted(authority: x509.Certificate) -> tuple[str, ...] | None:
    """Return the DNS names and addresses that `authority` may sign for; `None` when it may for any."""
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None
    values = (item.value for item in constraints.permitted_subtrees or ())
    return tuple(
        value if isinstance(value, str) else str(getattr(value, "network_address", value)) for value in values
    )


def _within(name: str, names: Iterable[str]) -> bool:
    plain = name.removeprefix("*.").lower()
    return any(plain == other or plain.endswith(f".{other}") for other in names)


def _constrained(builder: x509.CertificateBuilder, names: Iterable[str]) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    wanted = {name.removeprefix("*.").lower() for name in names}
    if not wanted:
        return builder
    subtrees = [subtree for name in sorted({*wanted, *ALWAYS_PERMITTED}) for subtree in _subtrees(name)]
    return builder.add_extension(x509.NameConstraints(subtrees, None), critical=True)


def _subtrees(name: str) -> Iterable[x509.GeneralName]:
    try:
        address = ip_address(name)
    except ValueError:
        yield x509.DNSName(name)
        return
    yield x509.IPAddress(ip_network(address))
    if address.version == 4:
        # OpenSSL checks the subject's common name, here the same address, against the permitted DNS names.
        yield x509.DNSName(name)


def authority_name(project: str) -> x509.Name:
    """Return the subject of a project's authority."""
    return _name(f"{project} certificate authority")


def new_certificate(wanted: TlsSettings, authority: KeyPair | None, now: datetime) -> KeyPair:
    """Return a server's certificate, signed by `authority`, or by its own key when that is `None`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(common_name(wanted))
    issuer = authority.certificate.subject if authority else subject
    signer = authority.key if authority else key
    builder = (
        _builder(subject, issuer, key, now, timedelta(days=wanted.lifetime_days))
        .add_extension(x509.SubjectAlternativeName(_general_names(wanted.names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_purposes(wanted)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    return KeyPair(builder.sign(signer, hashes.SHA256()), key)


def _purposes(wanted: TlsSettings) -> list[x509.ObjectIdentifier]:
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    return [server, client] if wanted.client else [server]


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_names(names: Iterable[str]) -> Iterable[x509.GeneralName]:
    for name in names:
        try:
            yield x509.IPAddress(ip_address(name))
        except ValueError:
            yield x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
