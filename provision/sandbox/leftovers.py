"""Removing a whole sandbox: one's own, or what a killed run left behind on the network that is wanted now."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from inventory.errors import SandboxError
from provision.sandbox import backend as backends
from provision.sandbox import network, notes
from provision.sandbox.commands import Progress
from provision.sandbox.host import recorded
from provision.sandbox.layout import Layout
from provision.sandbox.locking import locked
from provision.sandbox.rootfs import remove_tree
from provision.sandbox.secrets import OWN_NAME


def make_way(layout: Layout, progress: Progress) -> None:
    """Have nobody else on the bridge of `layout`: two sandboxes there would mix up their hosts.

    What nobody will remove any more is removed. Raises SandboxError for a sandbox that is in use.
    """
    for claim in notes.claims():
        other = claim.layout
        if other.bridge != layout.bridge or other.folder == layout.folder:
            continue
        if not claim.abandoned:
            raise SandboxError(
                f"the sandbox in {other.folder} is up and uses {other.bridge} and {other.subnet}",
                advice=f"Remove it first: `make down` in {claim.project}, or wait until its run ends.",
            )
        progress(f"clearing what a killed run left in {other.folder}", None)
        _remove_whole(other, progress)


def clear(progress: Progress) -> tuple[Path, ...]:
    """Remove the sandboxes of this checkout and those that are abandoned, but none whose run goes on."""
    going = [
        claim.layout
        for claim in notes.claims()
        if claim.abandoned or (claim.project == notes.PROJECT and not claim.in_hand)
    ]
    for layout in going:
        progress(f"clearing {layout.folder}", None)
        _remove_whole(layout, progress)
    return tuple(layout.folder for layout in going)


def remove(layout: Layout, *, purge: bool, progress: Progress) -> tuple[str, ...]:
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


def _remove_whole(layout: Layout, progress: Progress) -> None:
    if layout.folder.is_dir():
        with locked(layout, progress):
            remove(layout, purge=True, progress=progress)
    else:
        remove(layout, purge=False, progress=progress)


def _purge(layout: Layout) -> None:
    """Remove what we keep in the sandbox's folder, by name: the folder may be one of the user's own."""
    for folder in (layout.secrets, layout.folder / "models", layout.folder / ".clawd"):
        remove_tree(folder)
    for file in (layout.key, layout.key.with_suffix(".pub"), layout.inventory, layout.lock):
        file.unlink(missing_ok=True)
    if layout.folder.name == OWN_NAME:
        (layout.folder / ".gitignore").unlink(missing_ok=True)
    with suppress(OSError):
        layout.folder.rmdir()
