"""Removal of whole sandboxes: the current one, and leftovers of killed runs on the same network."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from inventory.errors import SandboxError
from provision.sandbox import claims, network
from provision.sandbox.commands import ReportSandboxProgress
from provision.sandbox.hosts import backend as backends
from provision.sandbox.hosts.host import recorded
from provision.sandbox.hosts.rootfs import remove_tree
from provision.sandbox.layout import Layout
from provision.sandbox.locking import locked
from provision.sandbox.secrets import OWN_NAME


def make_way(layout: Layout, progress: ReportSandboxProgress) -> None:
    """Make sure that no other sandbox uses the bridge of `layout`, which would mix up their hosts.

    Abandoned sandboxes are removed. Raises `SandboxError` for a sandbox that is in use.
    """
    for claim in claims.claims():
        other = claim.layout
        if other.bridge != layout.bridge or other.folder == layout.folder:
            continue
        if not claim.abandoned:
            raise SandboxError(
                f"the sandbox in {other.folder} is running and uses {other.bridge} and {other.subnet}",
                advice=f"remove it first with `make down` in {claim.project}, or wait until its run ends",
            )
        progress(f"removing leftovers of a killed run in {other.folder}", None)
        _remove_whole(other, progress)


def clear(progress: ReportSandboxProgress) -> tuple[Path, ...]:
    """Remove the sandboxes of this checkout and abandoned ones, but none whose run continues."""
    going = [
        claim.layout
        for claim in claims.claims()
        if claim.abandoned or (claim.project == claims.PROJECT and not claim.in_hand)
    ]
    for layout in going:
        progress(f"removing {layout.folder}", None)
        _remove_whole(layout, progress)
    return tuple(layout.folder for layout in going)


def remove(layout: Layout, *, purge: bool, progress: ReportSandboxProgress) -> tuple[str, ...]:
    """Remove the hosts and the network of `layout`, which is locked; return the hosts' names."""
    records = recorded(layout)
    for record in records:
        progress(f"{record.name}: removing", None)
        backends.named(record.backend, layout).remove(record.name)
    for backend in backends.present(layout):
        backend.cleanup()
    network.release(layout)
    remove_tree(layout.hosts)
    layout.known_hosts.unlink(missing_ok=True)
    if purge:
        _purge(layout)
    return tuple(record.name for record in records)


def _remove_whole(layout: Layout, progress: ReportSandboxProgress) -> None:
    if layout.folder.is_dir():
        with locked(layout, progress):
            remove(layout, purge=True, progress=progress)
    else:
        remove(layout, purge=False, progress=progress)


def _purge(layout: Layout) -> None:
    """Remove the sandbox's files by name, because the folder may contain other files of the user."""
    for folder in (layout.secrets, layout.folder / "models", layout.folder / ".clawd"):
        remove_tree(folder)
    for file in (layout.key, layout.key.with_suffix(".pub"), layout.inventory, layout.lock):
        file.unlink(missing_ok=True)
    if layout.folder.name == OWN_NAME:
        (layout.folder / ".gitignore").unlink(missing_ok=True)
    with suppress(OSError):
        layout.folder.rmdir()
