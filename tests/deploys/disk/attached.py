"""A real disk for a sandbox host: a loop device of this machine, whose node is made inside the host.

nspawn hosts have no udev and no nodes of disks. `Attached` does what udev would: it makes the nodes of the
disk and of partitions as they appear, and the links in /dev/disk/by-uuid. The kernel of the machine may have
no support for partition tables; `partx` then adds the partitions, as the component does.
"""

from __future__ import annotations

import os
import subprocess
import threading
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from provision.sandbox import Layout


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0 or not check, f"{command}: {done.stderr}"
    return done.stdout.strip()


def _contents(device: Path) -> tuple[str, str, bytes]:
    """Return the number of a block device, and a digest of its head, where a file system has its name."""
    try:
        number = (device / "dev").read_text()
        with Path("/dev", device.name).open("rb") as opened:
            return device.name, number, sha256(opened.read(1 << 17)).digest()
    except OSError:  # a partition that has just gone, or has no node here yet
        return device.name, "", b""


def works() -> bool:
    """Whether this machine can make loop devices at all."""
    return os.geteuid() == 0 and bool(run("losetup", "--find", check=False))


class Attached:
    """A disk in host `name`, while the context lasts; `path` is its node there and here."""

    def __init__(self, layout: Layout, name: str, image: Path, *, size: int = 400 << 20) -> None:
        self.layout, self.name, self.image = layout, name, image
        if not image.exists():
            image.touch()
            os.truncate(image, size)

    def __enter__(self) -> Self:
        self.path = run("losetup", "--find", "--show", str(self.image))
        # What another disk had that was taken away without a word, the kernel still believes of this one.
        run("partx", "--delete", self.path, check=False)
        run("partx", "--update", self.path, check=False)
        self._over, self._hidden, self._lock = threading.Event(), False, threading.Lock()
        self._known, self._made = "", tuple[object, ...]()
        self._thread = threading.Thread(target=self._like_udev)
        self._make_nodes()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        inside = self._inside()
        if inside:
            mounts = f"sed -n 's|^{self.path}p1 \\([^ ]*\\) .*|\\1|p' /proc/1/mounts | tac"
            script = f"{mounts} | while read -r mount; do umount $mount; done; rm -f {self.path}*"
            run("nsenter", "-t", inside, "-m", "--", "sh", "-c", script)
        run("partx", "--delete", self.path, check=False)
        run("losetup", "--detach", self.path)

    def hide(self) -> None:
        """Take the disk away from the host, as if it were not attached."""
        with self._lock:
            self._hidden = True
        run("nsenter", "-t", self._inside(), "-m", "--", "sh", "-c", f"rm -rf {self.path}* /dev/disk/by-uuid")

    def show(self) -> None:
        """Give it back."""
        with self._lock:
            self._hidden = False
            self._make_nodes(again=True)

    def _like_udev(self) -> None:
        while not self._over.wait(0.1):
            with self._lock:
                if not self._hidden:
                    self._make_nodes()

    def _appearance(self) -> tuple[object, ...]:
        """What nodes and links follow from; read without a new process, many times a second."""
        devices = sorted(Path("/sys/class/block").glob(f"{Path(self.path).name}*"))
        return (self._inside_now(), *(_contents(device) for device in devices))

    def _inside_now(self) -> str:
        if not self._known or not Path("/proc", self._known, "root").exists():
            self._known = self._inside()
        return self._known

    def _make_nodes(self, *, again: bool = False) -> None:
        appearance = self._appearance()
        if appearance == self._made and not again:
            return
        inside = self._inside_now()
        script = ""
        for device in sorted(Path("/sys/class/block").glob(f"{Path(self.path).name}*")):
            if device.name not in (Path(self.path).name, f"{Path(self.path).name}p1"):
                continue
            try:
                major, minor = (device / "dev").read_text().strip().split(":")
            except OSError:  # a partition that has just gone
                continue
            uuid = run("blkid", "-p", "-s", "UUID", "-o", "value", f"/dev/{device.name}", check=False)
            node = f"/dev/{device.name}"
            numbers = f"{int(major):x}:{int(minor):x}"
            script += f'[ "$(stat -c %t:%T {node})" = {numbers} ] || '
            script += f"{{ rm -f {node}; mknod -m 600 {node} b {major} {minor}; }}\n"
            script += f"ln -sfn {node} /dev/disk/by-uuid/{uuid}\n" if uuid else ""
        if inside and script:
            run(
                "nsenter",
                "-t",
                inside,
                "-m",
                "--",
                "sh",
                "-c",
                f"mkdir -p /dev/disk/by-uuid\n{script}",
                check=False,
            )
            self._made = appearance

    def _inside(self) -> str:
        """The first process of the host, as this machine numbers it; nothing while it boots."""
        spawner = run(
            "pgrep", "-f", f"^systemd-nspawn.*--directory={self.layout.host(self.name)}/root", check=False
        )
        child = run("pgrep", "-P", spawner.split("\n")[0], check=False) if spawner else ""
        return child.split("\n")[0]
