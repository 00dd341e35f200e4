"""The systemd units that mount the data disk and the folders on it. Pure."""

from __future__ import annotations

import re

from deploys.disk.settings import DiskFolder
from deploys.ops.paths.files import render

UNITS = "/etc/systemd/system"


def escaped(path: str) -> str:
    """Return a path as escaped in a unit's name (systemd.unit(5), `systemd-escape --path`)."""
    inner = path.strip("/").replace("//", "/")
    text = "".join(
        "-" if char == "/" else char if re.fullmatch(r"[A-Za-z0-9:_.]", char) else _hex(char)
        for char in inner
    )
    return f"{_hex('.')}{text[1:]}" if text.startswith(".") else text or "-"


def unit_of(path: str) -> str:
    """Return the name of the unit that mounts `path`."""
    return f"{escaped(path)}.mount"


def disk_unit(mount: str, uuid: str, filesystem: str) -> str:
    """Return the text of the unit that mounts the disk."""
    device = f"/dev/disk/by-uuid/{uuid}"
    values = {"mount": mount, "device": device, "check": f"systemd-fsck@{escaped(device)}.service"}
    return render("disk/data.mount", {**values, "filesystem": filesystem})


def place_unit(place: DiskFolder, mount: str) -> str:
    """Return the text of the unit that mounts a folder of the disk in its place."""
    values = {"folder": place.folder, "target": target_of(place, mount), "mount": mount}
    return render("disk/place.mount", {**values, "users": place.users})


def target_of(place: DiskFolder, mount: str) -> str:
    """Return the folder on the mounted disk."""
    return f"{mount}/{place.name}"


def _hex(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())
