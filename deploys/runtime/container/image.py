"""A release as an image of the host's Docker engine, by digest.

/opt/clawd/releases/<id>/image.env   `IMAGE=sha256:…`, and `BASE=…` which it was built on
/opt/clawd/releases/<id>/container_supervisor.py   runs it as a service

Like a release of files, it is a folder that the link /opt/clawd/current points at: switch, rollback and
keeping three work the same way for both.
"""

from __future__ import annotations

import json
import shlex
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.artifacts import ReleaseArchive
from deploys.ops import programs
from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact
from deploys.ops.paths.stream import StreamCommand, part_of
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, framed, script
from deploys.runtime.prune import Entries, EntriesFact, outdated
from deploys.runtime.settings import ContainerSettings, LoginSettings
from inventory.sections.docker import DOCKER_HUB

NAME = "clawd-runtime"
BASE = "clawd-base"
PROGRAMS = Path(__file__).parent


def program(name: str) -> str:
    """Return the text of a program that runs on the host or in the image."""
    return (PROGRAMS / name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class RuntimeImage:
    """The parts of an image. Its `id` is the name of its folder; equal ids mean equal content."""

    release: ReleaseArchive
    base: str
    base_image: str = ""
    registry: str = ""
    libraries: tuple[str, ...] = ()
    login: bytes = field(default=b"", repr=False)

    @property
    def id(self) -> str:
        """16 hex digits: a digest of the release, the base and the programs that build and start images."""
        return _digest(self.release.content, self.base, program("container_supervisor.py"))

    @property
    def engine_digest(self) -> str:
        """Digest of the files that the engine reads; while it is the same, the engine keeps running."""
        return _digest(self.release.engine_digest or self.release.content, self.base)


class BaseFact(Fact):
    """The packages of the host's own Python, from which a base is built: `NAME VERSION` lines."""

    def command(self) -> str:
        """Return a command that prints the plan of the program that builds the base."""
        return f"python3 -c {shlex.quote(program('build_image.py'))} plan 2>/dev/null || true"

    @staticmethod
    def default() -> str:
        """Return nothing, for a host without Python."""
        return ""

    def process(self, output: list[str]) -> str:
        """Return the lines as one text."""
        return "\n".join(output)


def wanted(
    release: ReleaseArchive, container: ContainerSettings, libraries: tuple[str, ...] = ()
) -> RuntimeImage:
    """Return the image that the current host should run, with `libraries`, packages of the host, in its base.

    They count by name, because they may not be installed yet. A base from elsewhere has its own.
    """
    made_of = container.base_image or str(host.get_fact(BaseFact))
    libraries = () if container.base_image else libraries
    base = _digest(made_of, program("build_image.py"), program("container_entrypoint.py"), *libraries)
    named = container.base_image or "", container.registry or ""
    return RuntimeImage(release, base, *named, libraries, client_config(container.login))


def client_config(login: LoginSettings | None) -> bytes:
    """Return `config.json` of Docker's client with a login; empty without one. Secret.

    Source: docs.docker.com/reference/cli/docker/login; Docker Hub is named by its first address.
    """
    if login is None:
        return b""
    registry = "https://index.docker.io/v1/" if login.registry == DOCKER_HUB else login.registry
    pair = b64encode(f"{login.user}:{login.password.get_secret_value()}".encode()).decode()
    return json.dumps({"auths": {registry: {"auth": pair}}}).encode()


def made(image: RuntimeImage, folder: str, **arguments: Any) -> OperationMeta:
    """Put the image into the engine, test it, and create its folder in `folder`.

    It is pulled from the registry that the hosts share; else the release is sent, and the host builds it.
    """
    arguments.setdefault("name", f"Image {NAME}:{image.id}")
    return _made(image, f"{folder}/{image.id}", **arguments)


def releases(folder: str, current: str, new: str, **arguments: Any) -> OperationMeta:
    """Remove old releases as `prune.releases`, with their images and bases that no image uses."""
    arguments.setdefault("name", f"Clear {folder}")
    return _releases(folder, current, new, **arguments)


def absent(**arguments: Any) -> OperationMeta:
    """Remove our images from the engine."""
    arguments.setdefault("name", "No images")
    return _absent(**arguments)


class ImageFact(Fact):
    """Whether the image of a release folder is in the engine, and the folder complete."""

    def command(self, folder: str) -> str:
        """Return a script that prints yes or no."""
        return assignments(folder=folder) + _THERE

    @staticmethod
    def default() -> bool:
        """Return False."""
        return False

    def process(self, output: list[str]) -> bool:
        """Return whether the script printed yes."""
        return output[0] == "yes"


_THERE = r"""
image=$(sed -n 's/^IMAGE=//p' "$folder/image.env" 2>/dev/null)
if [ "$image" ] && [ -f "$folder/container_supervisor.py" ] && docker image inspect "$image" >/dev/null 2>&1
then echo yes; else echo no; fi
"""


class ImagesFact(Fact):
    """Our images in the engine, each `NAME:TAG`, except those that containers run."""

    def command(self) -> str:
        """Return a script that prints one name per line."""
        return _IMAGES

    @staticmethod
    def default() -> frozenset[str]:
        """Return no names."""
        return frozenset()

    def process(self, output: list[str]) -> frozenset[str]:
        """Return the names."""
        return frozenset(filter(None, output))


_IMAGES = programs.program("deploys/runtime/container/scripts/images.sh")


@operation
def _made(image: RuntimeImage, dest: str) -> Iterator[StringCommand]:
    if host.get_fact(ImageFact, folder=dest):
        return
    archive = image.release.archive
    record(Change(dest, (f"new image from {archive.name} (content {image.release.content[:16]}…)",)))
    order = {
        "tag": f"{NAME}:{image.id}",
        "base_tag": f"{BASE}:{image.base}",
        "base_image": image.base_image,
        "libraries": " ".join(image.libraries),
        "registry": image.registry,
        "release": f"{dest}.new/unpacked",
        "work": f"{dest}.new/work",
        "entrypoint": program("container_entrypoint.py"),
    }
    texts = (program("build_image.py"), json.dumps(order), program("container_supervisor.py"))
    given = "".join(framed(content) for content in (*(text.encode() for text in texts), image.login))
    values = {
        "part": part_of(dest, image.release.sha256),
        "dest": dest,
        "base": order["base_image"] or order["base_tag"],
    }
    if image.registry:
        yield script(_TAKE, stdin=given, **values)
        if host.get_fact(ImageFact, folder=dest):
            return
    yield StreamCommand(archive, dest, image.release.sha256)
    yield script(_MAKE, stdin=given, digest=image.release.sha256, **values)


_PREPARE = programs.program("deploys/runtime/container/scripts/prepare.sh")
_ILIVE = programs.program("deploys/runtime/container/scripts/live.sh")
_TAKE = programs.program("deploys/runtime/container/scripts/take.sh")
_MAKE = programs.program("deploys/runtime/container/scripts/make.sh")


@operation
def _releases(folder: str, current: str, new: str) -> Iterator[StringCommand]:
    entries: Entries = host.get_fact(EntriesFact, folder=folder, link=current)
    going = outdated(entries, new)
    kept = {name for name in (*entries.names, new) if name not in going}
    there: frozenset[str] = host.get_fact(ImagesFact)
    images = [
        name for name in sorted(there) if name.startswith(f"{NAME}:") and name[len(NAME) + 1 :] not in kept
    ]
    for name in (*(f"{folder}/{name}" for name in going), *images):
        record(Change(name, ("removed",)))
    for name in going:
        yield script('rm -rf -- "$path"', path=f"{folder}/{name}")
    if images:
        yield script(_PRUNE, images=" ".join(images), folder=folder)


# A base goes with the last release that is built on it; the layers that an image is made of stay with it.
_PRUNE = r"""
docker rmi $images >/dev/null || exit 1
docker images --format '{{.Repository}}:{{.Tag}}' 'clawd-base' | while read -r base; do
    grep -qsxF "BASE=$base" "$folder"/*/image.env || docker rmi "$base" >/dev/null 2>&1 || true
done
"""


@operation
def _absent() -> Iterator[StringCommand]:
    there: frozenset[str] = host.get_fact(ImagesFact)
    if there:
        for name in sorted(there):
            record(Change(name, ("removed",)))
        yield script("docker rmi $images >/dev/null", images=" ".join(sorted(there)))


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:16]
