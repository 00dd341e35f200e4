"""Checks of the local files that an inventory names: existing, readable and of the right kind.

A web page saved as a key, or a public key in place of a private one, is reported here, before a program on a
host fails on it.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inventory.model import Inventory
from inventory.reading.source import KeyPath
from inventory.rule_findings import InventoryFinding
from inventory.sections.docker import Docker
from inventory.sections.logs import ElasticPackages
from inventory.sections.monitoring import Grafana
from inventory.sections.nvidia import Nvidia
from inventory.sections.tls import Acme

_READ = 4096


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file: its name, and a pattern for its first bytes."""

    what: str
    begin: re.Pattern[bytes]


# An OpenPGP packet of a public key, in the old or the new form: RFC 9580, section 4.2.
OPENPGP = FileKind(
    "an OpenPGP public key",
    re.compile(rb"\s*-----BEGIN PGP PUBLIC KEY BLOCK-----|[\x98\x99\x9a\xc6]", re.DOTALL),
)
CERTIFICATE = FileKind(
    "a certificate in PEM", re.compile(rb".*-----BEGIN (TRUSTED )?CERTIFICATE-----", re.DOTALL)
)
PACKAGE = FileKind("a Debian package", re.compile(rb"!<arch>"))
PROGRAM = FileKind("a program: it begins with neither `#!` nor ELF", re.compile(rb"#!|\x7fELF"))
PRIVATE_KEY = FileKind("a private key", re.compile(rb"(?!-----BEGIN PUBLIC|---- BEGIN SSH2 PUBLIC)"))
LEAVE_OUT = "leave it out for a public authority"
FETCH = "fetch the repository's key again"
PUBLIC_KEY = FileKind("a public key", re.compile(rb"(?:ssh-|ecdsa-|sk-)\S+ "))


def files(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding for each named file, models excepted, that is used but missing or of the wrong kind."""
    if inventory.known_hosts is not None:
        advice = "create it with `ssh-keyscan` and compare the keys"
        yield from present(("known_hosts",), inventory.known_hosts, advice)
    yield from _of_docker(inventory.docker)
    if any(host.gpu != "none" for host in inventory.hosts.values()):
        yield from _of_nvidia(inventory.nvidia)
    if inventory.monitoring.grafana is not None:
        yield from _of_grafana(inventory.monitoring.grafana)
    if inventory.with_role("logs"):
        yield from _of_logs(inventory.logs.packages)
    if inventory.tls.mode == "acme":
        yield from _of_acme(inventory.tls.acme)
    yield from _ssh_keys(inventory)


def _of_docker(docker: Docker) -> Iterator[InventoryFinding]:
    if docker.registry_authority is not None:
        at: KeyPath = ("docker", "registry_authority")
        yield from _of_kind(at, docker.registry_authority, CERTIFICATE, LEAVE_OUT)
    if docker.source == "docker" and docker.key is not None:
        yield from _of_kind(("docker", "key"), docker.key, OPENPGP, FETCH)


def _of_nvidia(nvidia: Nvidia) -> Iterator[InventoryFinding]:
    for name, key in (("key", nvidia.key), ("toolkit_key", nvidia.toolkit_key)):
        if key is not None:
            yield from _of_kind(("nvidia", name), key, OPENPGP, FETCH)


def _of_grafana(grafana: Grafana) -> Iterator[InventoryFinding]:
    if grafana.package is not None:
        advice = "name the .deb of Grafana"
        yield from _of_kind(("monitoring", "grafana", "package"), grafana.package, PACKAGE, advice)
    elif grafana.key is not None:
        yield from _of_kind(("monitoring", "grafana", "key"), grafana.key, OPENPGP, FETCH)


def _of_logs(packages: ElasticPackages) -> Iterator[InventoryFinding]:
    if packages.folder is not None:
        yield from _folder(("logs", "packages", "folder"), packages.folder)
    elif packages.key is not None:
        yield from _of_kind(("logs", "packages", "key"), packages.key, OPENPGP, FETCH)


def _of_acme(acme: Acme) -> Iterator[InventoryFinding]:
    if acme.authority is not None:
        yield from _of_kind(("tls", "acme", "authority"), acme.authority, CERTIFICATE, LEAVE_OUT)
    if acme.dns.hook is not None:
        yield from _of_kind(("tls", "acme", "dns", "hook"), acme.dns.hook, PROGRAM, "name a provider")


def _ssh_keys(inventory: Inventory) -> Iterator[InventoryFinding]:
    for name, host in inventory.hosts.items():
        if host.ssh_key is not None:
            yield from _ssh_key(("hosts", name, "ssh_key"), host.ssh_key)
        if host.bastion is not None and host.bastion.ssh_key is not None:
            yield from _ssh_key(("hosts", name, "bastion", "ssh_key"), host.bastion.ssh_key)


def _ssh_key(path: KeyPath, file: Path) -> Iterator[InventoryFinding]:
    if "PRIVATE KEY" in str(file):
        yield InventoryFinding(
            (path,),
            "this is a private key, not a path",
            "replace this key pair, and give the path of its file",
        )
        return
    public = file.with_name(f"{file.name}.pub")
    if not file.exists() and _is_public_key(public):
        return
    wrong = list(present(path, file, "create a key with `ssh-keygen -t ed25519`"))
    yield from wrong
    # As for ssh(1), a public key selects the private key of the agent.
    if wrong or _is_public_key(file):
        return
    if not PRIVATE_KEY.begin.match(_begin(file)):
        yield InventoryFinding(
            (path,),
            f"{shown_name(file)} is a public key in a format that ssh does not support",
            "give the private key, or the public one as printed by `ssh-keygen -i`",
        )
    elif (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
        yield InventoryFinding(
            (path,),
            f"{shown_name(file)} is accessible to other users (mode {mode:04o})",
            f"run `chmod 600 {file}`",
        )


def _is_public_key(file: Path) -> bool:
    try:
        return PUBLIC_KEY.begin.match(_begin(file)) is not None
    except OSError:
        return False


def _of_kind(path: KeyPath, file: Path, kind: FileKind, advice: str) -> Iterator[InventoryFinding]:
    wrong = list(present(path, file, advice))
    yield from wrong
    if not wrong and not kind.begin.match(_begin(file)):
        yield InventoryFinding(
            (path,), f"{shown_name(file)} is not {kind.what}", f"correct the path, or {advice}"
        )


def _folder(path: KeyPath, folder: Path) -> Iterator[InventoryFinding]:
    if not folder.exists():
        yield InventoryFinding((path,), f"{shown_name(folder)} does not exist", "correct the path")
    elif not folder.is_dir():
        yield InventoryFinding(
            (path,), f"{shown_name(folder)} is not a folder", "give the folder with the .deb files"
        )
    elif not any(folder.glob("*.deb")):
        yield InventoryFinding(
            (path,), f"{shown_name(folder)} has no .deb files", "copy Elastic's packages there"
        )


def present(path: KeyPath, file: Path, advice: str) -> Iterator[InventoryFinding]:
    """Yield a finding when a file is missing or cannot be read."""
    try:
        mode = file.stat().st_mode
        if stat.S_ISREG(mode):
            _begin(file)
    except FileNotFoundError:
        yield InventoryFinding(
            (path,), f"{shown_name(file)} does not exist", f"correct the path, or {advice}"
        )
    except OSError as error:
        yield InventoryFinding(
            (path,), f"cannot read {shown_name(file)}: {error.strerror}", "correct the path"
        )
    else:
        if not stat.S_ISREG(mode):
            yield InventoryFinding(
                (path,), f"{shown_name(file)} is not a regular file", "give the path of a file"
            )


def _begin(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_READ)


def shown_name(file: Path) -> str:
    """Return a path, shortened for a message."""
    text = str(file)
    return text if len(text) <= 200 else f"…{text[-199:]}"
