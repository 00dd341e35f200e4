"""The certificate of a host, installed together with its key in one step.

/etc/clawd/tls.d/<serial>/{fullchain.pem,privkey.pem}
/etc/clawd/tls -> tls.d/<serial>

It is issued or provided on the laptop; from an authority with ACME, the host obtains and renews it itself.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyinfra import host
from pyinfra.api import StringCommand, deploy
from pyinfra.api.operation import OperationMeta

from deploys.artifacts import Supplies
from deploys.ops.diff import operation, record, text_diff
from deploys.ops.facts import Fact, PathFact, PathState
from deploys.ops.paths import files
from deploys.ops.programs import program
from deploys.ops.removal import removal
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, framed, script
from deploys.settings import settings_of, supplies
from deploys.tls import renewal
from deploys.tls.authority import authority, authority_certificate, remember
from deploys.tls.certificate import (
    Installed,
    covers,
    leaf_of,
    new_certificate,
    reason_to_issue,
    signed_by,
)
from deploys.tls.settings import CURRENT, ProvidedSettings, TlsSettings
from deploys.topology.certificates import AUTHORITY

SERIALS = f"{CURRENT}.d"
CHAIN = f"{CURRENT}/fullchain.pem"
KEY = f"{CURRENT}/privkey.pem"

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the current time, with its zone."""
    return datetime.now(UTC)


@deploy("TLS")
def apply() -> None:
    """Install a certificate for the declared names, with its renewal and a metric of its expiry."""
    settings = settings_of("tls", TlsSettings)
    renewal.program(settings)
    certificate(settings, supplies())
    renewal.timer()


@removal("TLS")
def remove() -> None:
    """Remove certificate, key, and everything that renews them. The authority on the laptop stays."""
    renewal.absent()
    files.absent(CURRENT)
    files.absent(SERIALS)


class CertificateFact(Fact):
    """The certificate of a host, as `Installed`."""

    def command(self, chain: str, key: str) -> str:
        """Return a script that prints the key's mode and public half, the chain in base64, and its source."""
        return assignments(chain=chain, key=key) + _INSTALLED

    @staticmethod
    def default() -> Installed:
        """Return that there is no certificate."""
        return Installed()

    def process(self, output: list[str]) -> Installed:
        """Turn the script's lines into `Installed`."""
        mode, public, chain, source = (*output, "", "", "", "")[:4]
        return Installed(b64decode(chain), public, mode, source)


_INSTALLED = r"""
stat -L -c %a "$key" 2>/dev/null || echo
openssl pkey -in "$key" -pubout -outform DER 2>/dev/null | sha256sum | cut -c1-64
base64 -w0 "$chain" 2>/dev/null
echo
cat "${chain%/*}/source" 2>/dev/null || true
"""


def certificate(
    wanted: TlsSettings,
    brought: Supplies,
    *,
    folder: str = CURRENT,
    owner: str = "root",
    clock: Clock = utc_now,
    **arguments: Any,
) -> OperationMeta:
    """Install the certificate `wanted` in `folder`; replace one that is not valid for it.

    `folder` has fullchain.pem, privkey.pem (of `owner`, 0600) and, signed by the project's authority, ca.pem.
    `folder` is a link to a folder in `<folder>.d`, so that all files change together.
    """
    arguments.setdefault("name", f"Certificate for {', '.join(wanted.names)}")
    return _certificate(wanted, brought, folder, owner, clock, **arguments)


def internal(
    folder: str, project: str, names: tuple[str, ...], *, owner: str, subject: str = "", **arguments: Any
) -> OperationMeta:
    """Install a certificate of the project's own authority, for a service that only hosts of the project use.

    It is valid for both sides of a connection: nodes of a cluster are servers and clients of each other. By
    `subject` a server identifies this client.

    `folder` is as in `certificate`; its files belong to `owner`, a user that must exist by then. It is valid
    for a year and renewed when a third of that is left: give the files to the service's `watch`. Only `up`
    renews it, so its expiry is a metric (deploys/exporters/certificates.py, where a new `folder` has to be
    added) and checked by `verify` (`deploys.ops.checks.expect_certificate`).
    """
    wanted = TlsSettings(project=project, names=names, subject=subject, lifetime_days=365, client=True)
    return certificate(wanted, supplies(), folder=folder, owner=owner, **arguments)


def trusted(project: str, *, path: str = AUTHORITY, **arguments: Any) -> OperationMeta:
    """Install the certificate of the project's authority, for programs here that check our servers."""
    arguments.setdefault("name", f"Authority of {project}")
    return _trusted(project, supplies(), path, utc_now, **arguments)


@operation
def _trusted(project: str, brought: Supplies, path: str, clock: Clock) -> Iterator[StringCommand]:
    state: PathState = host.get_fact(PathFact, path=path, content=True)
    known = _known_authority(brought, brought.names)
    wanted = _bundle(known.public_bytes(Encoding.PEM), brought) if known else None
    if wanted and state.content == wanted and (state.mode, state.owner) == ("0644", "root"):
        return
    record(Change(path, text_diff(state.content, wanted) if wanted else ("of the new authority",)))
    yield script('mkdir -p -m 0755 "${path%/*}"', path=path)
    # As with a certificate: only now is an authority created.
    if wanted is None:
        whole = authority(brought.state_folder, project, timedelta(days=365), clock(), brought.names)
        wanted = _bundle(whole.certificate_pem, brought)
    yield script(_TRUST, stdin=framed(wanted), path=path, owner="root")


@operation
def _certificate(
    wanted: TlsSettings, brought: Supplies, folder: str, owner: str, clock: Clock
) -> Iterator[StringCommand]:
    chain_path, key_path = f"{folder}/fullchain.pem", f"{folder}/privkey.pem"
    installed: Installed = host.get_fact(CertificateFact, chain=chain_path, key=key_path)
    own = wanted.mode == "own-ca"
    names = _names(brought, wanted)
    known = _known_authority(brought, names) if own else None
    former = _former_signer(installed, brought) if own else None
    if former is not None:
        reason: str | None = reason_to_issue(installed, wanted, former, clock())
    elif own and known is None and installed.chain and authority_certificate(brought.state_folder):
        reason = "the authority's certificate is renewed for new names"
    else:
        reason = reason_to_issue(installed, wanted, known, clock())
    if reason is None:
        if wanted.mode == "self-signed":
            remember(brought.state_folder, host.name, installed.chain)
        if own:
            yield from _authorities(wanted, brought, f"{folder}/ca.pem", known, owner, clock)
        return
    source = {"acme": "obtain", "provided": "install"}.get(wanted.mode, "issue")
    record(Change(chain_path, (f"{source} a certificate for {', '.join(wanted.names)}: {reason}",)))
    record(Change(key_path, (), secret=True))
    if wanted.mode == "acme":
        yield script(renewal.OBTAIN)
        return
    yield script('(umask 077; mkdir -p "$folder")', folder=f"{folder}.d")
    # The preparation ends at the first command, so a plan creates neither authority nor key.
    new = _provided(wanted.provided) if wanted.provided else _issued(wanted, brought, clock())
    yield script(
        _INSTALL,
        stdin=framed(new.chain) + framed(new.key) + framed(new.authority),
        current=folder,
        serials=f"{folder}.d",
        owner=owner,
        serial=f"{new.serial:x}",
    )
    if wanted.mode == "self-signed":
        remember(brought.state_folder, host.name, new.chain)


def _authorities(
    wanted: TlsSettings,
    brought: Supplies,
    path: str,
    known: x509.Certificate | None,
    owner: str,
    clock: Clock,
) -> Iterator[StringCommand]:
    """Yield what replaces the authorities next to a certificate that stays."""
    present: PathState = host.get_fact(PathFact, path=path, content=True)
    if known is not None and present.content == _bundle(known.public_bytes(Encoding.PEM), brought):
        return
    change = "trust the new authority as well" if brought.rotation.former else "trust the authority alone"
    record(Change(path, (change,)))
    yield script('[ -d "${path%/*}" ]', path=path)
    # Only now is an authority created.
    lifetime = timedelta(days=wanted.lifetime_days)
    signer = authority(brought.state_folder, wanted.project, lifetime, clock(), _names(brought, wanted))
    bundle = _bundle(signer.certificate_pem, brought)
    yield script(_TRUST, stdin=framed(bundle), path=path, owner=owner)


def _bundle(current: bytes, brought: Supplies) -> bytes:
    """Return the certificates that a host trusts, the current authority's first: some readers stop there."""
    return current + b"".join(brought.rotation.former)


def _former_signer(installed: Installed, brought: Supplies) -> x509.Certificate | None:
    """Return the former authority that signed a certificate, while certificates of such stay; else `None`."""
    if not brought.rotation.introducing:
        return None
    former = map(x509.load_pem_x509_certificate, brought.rotation.former)
    return next((each for each in former if signed_by(installed.chain, each)), None)


@dataclass(frozen=True, slots=True)
class _New:
    """The files to install, in PEM; `authority` is empty where it is not ours."""

    serial: int
    chain: bytes
    key: bytes = field(repr=False)
    authority: bytes = b""


def _known_authority(brought: Supplies, names: tuple[str, ...]) -> x509.Certificate | None:
    """Return the authority's certificate; `None` where there is none that may sign for `names`."""
    known = authority_certificate(brought.state_folder)
    return known if known is not None and covers(known, names) else None


def _names(brought: Supplies, wanted: TlsSettings) -> tuple[str, ...]:
    """Return the names that the authority has to sign for; none where the project's names are not known.

    OpenSSL also checks a common name against the constraints, where the certificate has only addresses.
    """
    subject = (wanted.subject,) if wanted.subject else ()
    return (*brought.names, *wanted.names, *subject) if brought.names else ()


def _issued(wanted: TlsSettings, brought: Supplies, now: datetime) -> _New:
    if wanted.mode == "self-signed":
        alone = new_certificate(wanted, None, now)
        return _New(alone.certificate.serial_number, alone.certificate_pem, alone.key_pem)
    lifetime = timedelta(days=wanted.lifetime_days)
    names = _names(brought, wanted)
    signer = authority(brought.state_folder, wanted.project, lifetime, now, names)
    issued = new_certificate(wanted, signer, now)
    chain = issued.certificate_pem + signer.certificate_pem
    trusts = _bundle(signer.certificate_pem, brought)
    return _New(issued.certificate.serial_number, chain, issued.key_pem, trusts)


def _provided(provided: ProvidedSettings) -> _New:
    chain, key = (value.get_secret_value().encode() for value in (provided.certificate, provided.key))
    return _New(leaf_of(provided).serial_number, chain.rstrip() + b"\n", key.rstrip() + b"\n")


_TRUST = program("deploys/tls/scripts/trust.sh")

_INSTALL = program("deploys/tls/scripts/install.sh")
