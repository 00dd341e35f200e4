"""Rotation of the project's authority without an outage, in passes of one `up`.

Hosts of a deployment know each other by certificates of one authority. If a new one signed them all again at
once, hosts that have changed and hosts that have not would refuse each other until the last has changed.
Therefore a pass has all hosts trust the new authority as well, the next one signs certificates again, and
the last one ends trust in the former authority. Which pass is next is read from the hosts, so that the next
run completes an interrupted one. Former authorities are those that the laptop has kept: `ca.old`, ….
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from deploys.artifacts import NO_ROTATION, Rotation
from deploys.ops.programs import program
from deploys.ops.shell import assignments
from deploys.tls.authority import authority_certificate, former_authorities
from deploys.tls.certificate import public_key_sha256, signed_by
from deploys.tls.settings import CURRENT
from deploys.topology.certificates import AUTHORITY, CERTIFICATE_FOLDERS
from inventory.errors import HostError, with_hint
from inventory.load import LoadedInventory
from provision.connection.session import Session

FOLDERS = " ".join((CURRENT, *CERTIFICATE_FOLDERS.values()))
PROGRAM = program("provision/rollout/scripts/ask_authorities.sh")
ASK = assignments(folders=FOLDERS, authority=AUTHORITY) + PROGRAM


@dataclass(frozen=True, slots=True)
class HostAuthorities:
    """The certificates of a host that an authority of the project signed, and what each of its files trusts.

    `chains` are in PEM, `trusts` are SHA-256 digests of the public keys in a file.
    """

    chains: tuple[bytes, ...] = ()
    trusts: tuple[frozenset[str], ...] = ()

    @classmethod
    def parse(cls, output: str) -> HostAuthorities:
        """Parse what `ASK` prints. A file that cannot be read counts as empty, and is replaced."""
        found: dict[str, list[bytes]] = {"chain": [], "trust": []}
        for line in output.splitlines():
            kind, _, content = line.partition("=")
            if kind in found:
                found[kind].append(b64decode(content))
        return cls(tuple(found["chain"]), tuple(map(_keys, found["trust"])))


def _keys(pem: bytes) -> frozenset[str]:
    try:
        return frozenset(map(public_key_sha256, x509.load_pem_x509_certificates(pem)))
    except ValueError:
        return frozenset()


def find(session: Session, loaded: LoadedInventory) -> Rotation:
    """Return how far the rotation of the authority is; an empty one when hosts use no former authority.

    Raises `HostError` for a host that does not answer, `ClawdError` for an authority that cannot be read.
    """
    former = former_authorities(loaded.state_folder)
    if not former:
        return NO_ROTATION

    def ask(host: str) -> HostAuthorities:
        done = session.run(host, ASK, timeout=30)
        if not done.succeeded:
            raise HostError(f"{host}: cannot read which authorities it trusts: {done.stderr.strip()}")
        return HostAuthorities.parse(done.stdout)

    answers = session.everywhere(ask, session.reached)
    return rotation(answers, loaded.inventory.hosts, authority_certificate(loaded.state_folder), former)


def rotation(
    answers: Mapping[str, HostAuthorities],
    hosts: Collection[str],
    current: x509.Certificate | None,
    former: Collection[x509.Certificate],
) -> Rotation:
    """Return how far the rotation to the authority `current` is; `None` is one that is not made yet.

    Of `hosts` without an answer nothing is known: then nothing is signed again, and trust in a former
    authority does not end.
    """
    whole = set(hosts) <= set(answers)
    files = [keys for answer in answers.values() for keys in answer.trusts]
    kept = [
        each
        for each in former
        if any(signed_by(chain, each) for answer in answers.values() for chain in answer.chains)
        or (not whole and any(public_key_sha256(each) in keys for keys in files))
    ]
    if not kept:
        return NO_ROTATION
    known = current is not None and all(public_key_sha256(current) in keys for keys in files)
    return Rotation(
        tuple(each.public_bytes(Encoding.PEM) for each in kept), introducing=not (whole and known)
    )


def explained(state: Rotation, *, completes: bool) -> str:
    """Return that a former authority is still trusted, with a hint what ends that; empty when none is.

    `completes` is whether the next `up` of these hosts ends it.
    """
    if not state.former:
        return ""
    advice = (
        "`up`, without `--tags`, signs them again in a second pass, and ends that trust in a last one"
        if completes
        else "run `up` for all hosts, without `--limit` and `--tags`"
    )
    return with_hint("a former authority is still trusted: it signed certificates between hosts", advice)
