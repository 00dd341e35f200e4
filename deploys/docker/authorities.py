"""The authority of private registries, in the file that the engine reads at each request to one.

/etc/docker/certs.d/<host[:port]>/ca.crt: docs.docker.com/engine/security/certificates. It is trusted in
addition to the public ones, and only for that registry.
"""

from __future__ import annotations

from pyinfra import host

from deploys.docker.settings import DockerSettings
from deploys.ops.facts import Fact
from deploys.ops.paths import files
from deploys.ops.programs import program
from deploys.ops.shell import assignments
from inventory.errors import ArtifactError

FOLDER = "/etc/docker/certs.d"
NAME = "ca.crt"
MARK = "# Written by clawd-provision: changes by hand are undone."
"""Line before the certificate, which OpenSSL and Go skip; files without it are not of this program."""


def trusted(settings: DockerSettings) -> None:
    """Install the declared authority for every registry, and remove ours from others.

    Raises `ArtifactError` when the laptop's file cannot be read.
    """
    wanted = authorities(settings)
    for path in host.get_fact(OwnFact):
        if f"{path.removesuffix('/' + NAME)}/{NAME}" not in wanted:
            files.absent(path)
    for path, content in wanted.items():
        files.directory(path.rsplit("/", 1)[0])
        files.put(path, content, check="openssl x509 -noout -in {}")


def authorities(settings: DockerSettings) -> dict[str, bytes]:
    """Return the files by their paths on the host. Raises `ArtifactError` as `trusted`."""
    if settings.registry_authority is None:
        return {}
    try:
        certificate = settings.registry_authority.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"the authority of the registry cannot be read: {error}",
            advice="put it where `docker.registry_authority` says: a certificate in PEM",
        ) from error
    content = f"{MARK}\n".encode() + certificate.strip() + b"\n"
    return {f"{FOLDER}/{registry}/{NAME}": content for registry in settings.registries}


class OwnFact(Fact):
    """Our files on the host: the folder where it has nothing else, otherwise the file."""

    def command(self) -> str:
        """Return a script that prints one path per line."""
        return assignments(folder=FOLDER, name=NAME, mark=MARK) + _OWN

    @staticmethod
    def default() -> tuple[str, ...]:
        """Return no paths."""
        return ()

    def process(self, output: list[str]) -> tuple[str, ...]:
        """Return the paths."""
        return tuple(filter(None, output))


_OWN = program("deploys/docker/scripts/own.sh")
