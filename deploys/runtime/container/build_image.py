"""Build the runtime's image from a release, on the host and without a registry.

    build_image.py plan                 prints the packages of the base, `NAME VERSION` per line
    build_image.py take < ORDER         pulls the image of an order (JSON, see `make`) from the registry and
                                        prints its ID, or nothing when the registry does not have it
    build_image.py make < ORDER         builds it, pushes it to the registry, prints its ID

An image has three layers. The base is the host's own Python: the installed files of the packages that it and
llama.cpp's libraries need, and nothing else, so it has no shell. Or it is another image, by name. On top are
the libraries of the release, and then clawd_runtime itself, the only layer that differs from one release of
the bot to the next. Everything that could differ between builds (times, owners, order) is fixed, so the same
packages and the same release give the same image on every host, and engines and registries receive only the
layers that they lack.

A separate program on the host; uses only the standard library. Source of the archive's format: the Docker
image specification v1.2, github.com/moby/docker-image-spec.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOTS = ("python3", "libgomp1", "libstdc++6")
"""Packages that the base has to contain, with their dependencies."""

LEFT_OUT = {"dpkg", "tar", "debconf", "perl-base", "cdebconf", "init-system-helpers"}
"""Packages needed only for installing others."""

NOT_NEEDED = re.compile(
    r"/usr/share/(doc|man|info|locale|lintian|bug|doc-base|menu|pixmaps|applications)(/|$)|/var/"
)
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Folders that are links into /usr in every release since Debian 12 and Ubuntu 20.04."""

DPKG = "/var/lib/dpkg/info"
RELEASE_FOLDER = "opt/clawd/current"
OWN = re.compile(r"clawd_runtime(-.*)?")
"""Entries in `site-packages` of a release that are the code of bot and engine themselves."""

CONFIG = {
    "Env": [
        "PATH=/usr/local/bin:/usr/bin:/bin",
        f"PYTHONPATH=/{RELEASE_FOLDER}/site-packages",
        "PYTHONDONTWRITEBYTECODE=1",
        "PYTHONUNBUFFERED=1",
    ],
    "Entrypoint": ["python3", "-P", "/opt/clawd/container_entrypoint.py"],
    "WorkingDir": "/",
}
TRIAL = "import ctypes, ssl, sqlite3, zlib, clawd_runtime.bot.service.main, clawd_runtime.engine.main"
EPOCH = "1970-01-01T00:00:00Z"


class RegistryError(Exception):
    """A registry refused a request."""


def main(arguments: list[str]) -> int:
    """Run `plan`, `take` or `make`; return the exit code."""
    if arguments == ["plan"]:
        for name, version in sorted(closure(installed()).items()):
            print(name, version)
        return 0
    try:
        print({"take": take, "make": make}[arguments[0]](json.load(sys.stdin)) or "")
    except RegistryError as error:
        sys.exit(str(error))
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        complaint = getattr(error, "stderr", None) or b""
        sys.exit(f"the image cannot be made: {error}\n{complaint.decode(errors='replace').strip()}".strip())
    return 0


# The content of the base


def installed() -> dict[str, dict[str, str]]:
    """Return the installed packages with their fields, from dpkg."""
    fields = ("Package", "Version", "db:Status-Status", "Pre-Depends", "Depends", "Provides")
    form = "\\t".join(f"${{{field}}}" for field in fields) + "\\n"
    shown = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True)
    rows = (line.split("\t") for line in shown.stdout.splitlines())
    return {row[0]: dict(zip(fields, row, strict=True)) for row in rows if row[2] == "installed"}


def closure(packages: dict[str, dict[str, str]], roots: tuple[str, ...] = ROOTS) -> dict[str, str]:
    """Return the packages that `roots` need to run, each with its version.

    `libgomp1` has none: it is built from the same source as `libgcc-s1`, and may not be installed yet.
    """
    provided = {word: name for name, fields in packages.items() for word in _names(fields["Provides"])}
    found: dict[str, str] = {}
    open_ends = list(roots)
    while open_ends:
        name = open_ends.pop()
        name = name if name in packages else provided.get(name, name)
        if name in found or name in LEFT_OUT:
            continue
        found[name] = packages[name]["Version"] if name in packages and name != "libgomp1" else "-"
        fields = packages.get(name, {"Pre-Depends": "", "Depends": ""})
        for demand in f"{fields['Pre-Depends']}, {fields['Depends']}".split(","):
            there = (
                word for word in _names(demand.replace("|", ",")) if word in packages or word in provided
            )
            open_ends += [next(there, "")] if demand.strip() else []
        open_ends = [name for name in open_ends if name]
    return found


def _names(text: str) -> list[str]:
    return [match[1] for part in text.split(",") if (match := re.match(r"\s*([a-z0-9][a-z0-9+.-]+)", part))]


def files_of(package: str) -> Iterator[str]:
    """Yield the files and links of an installed package that a program may need, under /usr where merged."""
    lists = [
        path
        for path in (Path(DPKG, f"{package}.list"), *Path(DPKG).glob(f"{package}:*.list"))
        if path.is_file()
    ]
    if not lists:
        raise ValueError(f"{package} is not installed")
    for line in lists[0].read_text(encoding="utf-8").splitlines():
        top, _, rest = line.lstrip("/").partition("/")
        path = f"/usr/{top}/{rest}" if top in MERGED and Path("/", top).is_symlink() else line
        there = Path(path)
        if not NOT_NEEDED.search(path) and (there.is_symlink() or there.is_file()):
            yield path


def base_tree(root: Path, libraries: tuple[str, ...] = ()) -> None:
    """Create the base under `root`: files of the packages and of `libraries`, Python's byte-compiled."""
    for package in closure(installed(), (*ROOTS, *libraries)):
        for path in files_of(package):
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)
    for name in MERGED:
        link = Path("/", name)
        if link.is_symlink():
            (root / name).symlink_to(link.readlink())
    for name in ("etc", "proc", "sys", "dev", "run", "tmp", "var/lib", "opt"):
        (root / name).mkdir(parents=True, exist_ok=True)
    compiled(root / "usr/lib", "/usr/lib")


def compiled(folder: Path, place: str) -> None:
    """Byte-compile Python below `folder`, `place` in the image; the result depends only on the source.

    A separate process compiles: names that a process has seen before, and the seed of its hashes, affect what
    it compiles next. Files that do not compile are left as they are. Raises `subprocess.CalledProcessError`
    when the process was killed.
    """
    command = [sys.executable, "-m", "compileall", "-qq", "-s", str(folder), "-p", place]
    command += ["--invalidation-mode", "unchecked-hash", str(folder)]
    # This program's own output is only the ID of the image.
    done = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "0"}, stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode not in (0, 1):
        raise subprocess.CalledProcessError(done.returncode, command)


# Layers and the archive that the engine loads


class Layer:
    """A tar archive on disk and its digest, by which the engine identifies it."""

    def __init__(self, tree: Path, archive: Path) -> None:
        self.archive = archive
        with (
            archive.open("wb") as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar,
        ):
            for path in sorted(tree.rglob("*")):
                tar.add(path, str(path.relative_to(tree)), recursive=False, filter=_plain)
        digest = hashlib.sha256()
        with archive.open("rb") as written:
            while piece := written.read(1 << 20):
                digest.update(piece)
        self.digest = f"sha256:{digest.hexdigest()}"


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = 0
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    if member.name == "tmp":
        member.mode = 0o1777
    return member


def image_config(config: dict[str, Any], layers: list[str], architecture: str) -> bytes:
    """Return the image's configuration, whose digest is the image's ID."""
    return json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "created": EPOCH,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": layers},
            "history": [{"created": EPOCH, "created_by": "clawd-provision"} for _ in layers],
        },
        sort_keys=True,
    ).encode()


def load(config: bytes, tag: str, layers: list[str], tops: tuple[Layer, ...]) -> None:
    """Load an image of these layers into the engine, which may lack only the `tops`."""
    image = hashlib.sha256(config).hexdigest()
    entry = {"Config": f"{image}.json", "RepoTags": [tag], "Layers": [f"{layer[7:]}.tar" for layer in layers]}
    process = subprocess.Popen(
        ["docker", "load", "--quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stderr
    try:
        with process.stdin, tarfile.open(fileobj=process.stdin, mode="w|") as tar:
            _add(tar, "manifest.json", json.dumps([entry]).encode())
            _add(tar, f"{image}.json", config)
            for top in tops:
                tar.add(top.archive, f"{top.digest[7:]}.tar", filter=_plain)
    except BrokenPipeError:
        pass  # the engine's error output has the reason
    complaint = process.stderr.read()
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, ["docker", "load"], stderr=complaint)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


# The order


def take(order: dict[str, str]) -> str | None:
    """Return the ID of the image `order["tag"]` of the engine or the registry; `None` when neither has it.

    An image of the engine is pushed, in case an earlier push failed. The reason of a failed pull is not
    checked: a registry that does not answer makes the later push fail.
    """
    ours = inspect(order["tag"])
    if ours is None:
        shared = f"{order['registry']}/{order['tag']}"
        if docker("pull", "--quiet", shared, check=False).returncode:
            return None
        docker("tag", shared, order["tag"])
        docker("rmi", shared)
        _tried(order["tag"])
    else:
        _share(order)
    return str((inspect(order["tag"]) or {})["Id"])


def make(order: dict[str, str]) -> str:
    """Build the image `order["tag"]` unless it exists, and return its ID.

    Keys of an order, all text: tag, base_tag (names of the images), base_image (name in a registry or empty),
    registry (prefix or empty), libraries (further packages of the host for the base, separated by spaces),
    release (folder with the unpacked release, moved away), entrypoint (text of
    container_entrypoint.py), work (a folder to use).
    """
    if inspect(order["tag"]) is None:
        _build(order)
        _tried(order["tag"])
        if order["registry"]:
            _share(order)
    return str((inspect(order["tag"]) or {})["Id"])


def _tried(tag: str) -> None:
    try:
        try_out(tag)
    except subprocess.CalledProcessError:
        docker("rmi", tag, check=False)  # or the next run would consider it good
        raise


def _share(order: dict[str, str]) -> None:
    """Push the image to the registry. Raises `RegistryError` when that fails."""
    shared = f"{order['registry']}/{order['tag']}"
    docker("tag", order["tag"], shared)
    try:
        pushed = docker("push", "--quiet", shared, check=False)
    finally:
        docker("rmi", shared)
    if pushed.returncode:
        raise RegistryError(
            f"the registry does not take {shared}:\n{pushed.stderr.decode(errors='replace').strip()}"
        )


def _build(order: dict[str, str]) -> None:
    work = Path(order["work"])
    base = _base(order, work)
    site = work / "libraries" / RELEASE_FOLDER
    site.parent.mkdir(parents=True)
    Path(order["release"]).rename(site)
    own = work / "own" / RELEASE_FOLDER
    own_apart(site, own)
    for folder in (site, own):
        compiled(folder, f"/{RELEASE_FOLDER}")
    (own.parent / "container_entrypoint.py").write_text(order["entrypoint"], encoding="utf-8")
    tops = tuple(Layer(work / name, work / f"{name}.tar") for name in ("libraries", "own"))
    layers = [*base["RootFS"]["Layers"], *(top.digest for top in tops)]
    config = image_config({**(base.get("Config") or {}), **CONFIG}, layers, str(base["Architecture"]))
    load(config, order["tag"], layers, tops)


def own_apart(release: Path, own: Path) -> None:
    """Move the files that differ between releases from an unpacked one to `own`, so that libraries remain."""
    (own / "site-packages").mkdir(parents=True)
    for path in [*release.iterdir(), *(release / "site-packages").iterdir()]:
        on_top = path.parent == release and path.name != "site-packages"
        if on_top or OWN.fullmatch(path.name):
            path.rename(own / path.relative_to(release))


def _base(order: dict[str, str], work: Path) -> dict[str, Any]:
    """Return the base image; build or pull it unless the engine has it."""
    name = order["base_image"] or order["base_tag"]
    if inspect(name) is None and order["base_image"]:
        pulled = docker("pull", "--quiet", name, check=False)
        if pulled.returncode:
            said = pulled.stderr.decode(errors="replace").strip()
            raise RegistryError(f"the registry does not give {name}:\n{said}")
    elif inspect(name) is None:
        (work / "base").mkdir(parents=True)
        base_tree(work / "base", tuple(order["libraries"].split()))
        layer = Layer(work / "base", work / "base.tar")
        architecture = docker("version", "--format", "{{.Server.Arch}}").stdout.decode().strip()
        load(image_config({}, [layer.digest], architecture), name, [layer.digest], (layer,))
    return inspect(name) or {}


def try_out(tag: str) -> None:
    """Check that Python in the image can load both programs; raise when it does not fit the release."""
    options = ("--rm", "--network", "none", "--read-only", "--entrypoint", "python3")
    docker("run", *options, tag, "-P", "-c", TRIAL)


def inspect(image: str) -> dict[str, Any] | None:
    """Return the engine's description of an image; `None` when it does not have it."""
    done = docker("image", "inspect", image, check=False)
    if done.returncode:
        return None
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the engine's client. Raises when it fails and `check` is set."""
    return subprocess.run(["docker", *arguments], capture_output=True, check=check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
