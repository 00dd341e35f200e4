"""A stand-in for NVIDIA's repositories: small packages with the real names and dependencies, signed.

A third one stands for the distribution, which has no headers of the kernel that sandbox hosts run.

The programs in them do what the real ones do for a host whose kernel is the presented tree `/presented`.
"""

from __future__ import annotations

import functools
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BRANCHES = {"580": "580.95.05", "590": "590.44.01"}
TOOLKITS = ("1.18.0-1", "1.19.0-1")
CUDA = ("12-9", "13-1")
# Makes, below the presented root, the device nodes that it is asked for.
MODPROBE = """#!/bin/sh
mkdir -p /presented/dev
: > /presented/dev/nvidia0
[ "$1" != -u ] || : > /presented/dev/nvidia-uvm
"""
# What runc calls before a container's program starts, with the container's state: puts nvidia-smi into it,
# where the engine was asked for GPUs. Containers of ours have no shell.
HOOK = """#!/usr/bin/python3
import json, pathlib, sys
if not pathlib.Path("/presented/proc/driver/nvidia/version").exists():
    sys.exit("nvidia-container-cli: initialization error: nvml error: driver not loaded")
bundle = pathlib.Path(json.load(sys.stdin)["bundle"])
config = json.loads((bundle / "config.json").read_text())
assert "NVIDIA_VISIBLE_DEVICES=all" in config["process"]["env"], "GPUs were not asked for"
root = pathlib.Path(config["root"]["path"])
root = root if root.is_absolute() else bundle / root
program = root / "usr/bin/nvidia-smi"
program.write_text("#!/usr/bin/python3\\nprint('GPU 0: Tesla T4 (UUID: GPU-0)')\\n")
program.chmod(0o755)
"""
PERSISTENCED = """[Unit]
Description=NVIDIA Persistence Daemon
[Service]
ExecStart=/usr/bin/nvidia-persistenced
[Install]
WantedBy=multi-user.target
"""
# The messages and the exit code are those of the real program without a driver.
SMI = """#!/bin/sh
if [ ! -f /presented/proc/driver/nvidia/version ]; then
    echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver." \
        "Make sure that the latest NVIDIA driver is installed and running."
    exit 9
fi
number=0
for device in /presented/sys/bus/pci/devices/*; do
    [ "$(cat "$device/vendor")" = 0x10de ] || continue
    case "$1" in
    --query-gpu=*) echo "$number, Tesla T4, 41, 0, 1, 15360, 12.50, 0" ;;
    *) echo "GPU $number: Tesla T4 (UUID: GPU-00000000-0000-0000-0000-00000000000$number)" ;;
    esac
    number=$((number + 1))
done
"""


def make(folder: Path, kernel: str) -> Path:
    """The repositories below `folder`, for hosts with this kernel; returns the file with their key."""
    home = folder / "gnupg"
    home.mkdir(mode=0o700, parents=True)
    gpg = [
        "gpg",
        "--homedir",
        str(home),
        "--batch",
        "--yes",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
    ]
    try:
        _run([*gpg, "--quick-gen-key", "Stand-in <driver@example.invalid>", "rsa3072", "sign", "never"])
        key = folder / "key.pub"
        key.write_bytes(_run([*gpg, "--armor", "--export"]))
        driver, toolkit = folder / "driver", folder / "toolkit" / "amd64"
        pool, distribution = driver / "debian12" / "x86_64", folder / "distribution"
        _driver(pool)
        _toolkit(toolkit)
        _package(distribution, f"linux-headers-{kernel}", "6.1")
        for flat in (pool, toolkit, distribution):
            _index(flat, gpg)
        (driver / "debian13").symlink_to("debian12")
        return key
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


@contextmanager
def served(folder: Path, address: str) -> Iterator[str]:
    """The address under which `folder` is served over HTTP."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((address, 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _driver(pool: Path) -> None:
    for branch, release in BRANCHES.items():
        version = f"{release}-1"
        same = f"(= {version})"
        pin = f"Package: *nvidia* cuda-drivers*\nPin: version {branch}.*\nPin-Priority: 1000\n"
        _package(
            pool,
            f"nvidia-driver-pinning-{branch}",
            version,
            {f"etc/apt/preferences.d/nvidia-driver-pinning-{branch}": pin},
            Provides="nvidia-driver-pinning",
            Conflicts="nvidia-driver-pinning",
        )
        for name, kind in (
            ("nvidia-open", "nvidia-kernel-open-dkms"),
            ("cuda-drivers", "nvidia-kernel-dkms"),
        ):
            _package(pool, name, version, Depends=f"nvidia-driver-cuda {same}, {kind} {same}")
        _package(pool, "nvidia-kernel-open-dkms", version, Conflicts="nvidia-kernel-dkms")
        _package(pool, "nvidia-kernel-dkms", version, Conflicts="nvidia-kernel-open-dkms")
        _package(pool, "nvidia-driver-cuda", version, {"usr/bin/nvidia-smi": SMI})
        daemon = {
            "usr/bin/nvidia-persistenced": "#!/bin/sh\nexec sleep infinity\n",
            "usr/lib/systemd/system/nvidia-persistenced.service": PERSISTENCED,
        }
        _package(pool, "nvidia-persistenced", version, daemon)
        _package(pool, "nvidia-modprobe", version, {"usr/bin/nvidia-modprobe": MODPROBE})
    for version in CUDA:
        common = f"cuda-toolkit-{version}-config-common"
        folder = f"usr/local/cuda-{version.replace('-', '.')}/targets/x86_64-linux/lib"
        _package(pool, common, f"{version.replace('-', '.')}.79-1")
        for name, library in (("cuda-cudart", "libcudart.so"), ("libcublas", "libcublas.so")):
            files = {f"{folder}/{library}.{version[:2]}": "library\n"}
            _package(pool, f"{name}-{version}", f"{version.replace('-', '.')}.79-1", files, Depends=common)


def _toolkit(pool: Path) -> None:
    for version in TOOLKITS:
        same = f"(= {version})"
        _package(pool, "libnvidia-container1", version)
        _package(pool, "libnvidia-container-tools", version, Depends=f"libnvidia-container1 {same}")
        hook = {"usr/bin/nvidia-container-runtime-hook": HOOK}
        _package(pool, "nvidia-container-toolkit-base", version, hook)
        needs = f"nvidia-container-toolkit-base {same}, libnvidia-container-tools (>= {version})"
        _package(pool, "nvidia-container-toolkit", version, Depends=needs)


def _package(
    pool: Path, name: str, version: str, files: dict[str, str] | None = None, **control: str
) -> None:
    root = pool / "build"
    _run(["rm", "-rf", str(root)])
    for path, content in (files or {}).items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(0o755 if content.startswith("#!") else 0o644)
    fields = {
        "Package": name,
        "Version": version,
        "Architecture": "amd64",
        "Maintainer": "stand-in <n@invalid>",
    }
    lines = [f"{key}: {value}" for key, value in {**fields, **control, "Description": "stand-in"}.items()]
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text("\n".join(lines) + "\n")
    _run(
        [
            "dpkg-deb",
            "--root-owner-group",
            "-Znone",
            "--build",
            str(root),
            str(pool / f"{name}_{version}.deb"),
        ]
    )
    _run(["rm", "-rf", str(root)])


def _index(pool: Path, gpg: list[str]) -> None:
    entries = []
    for deb in sorted(pool.glob("*.deb")):
        data = deb.read_bytes()
        control = _run(["dpkg-deb", "--field", str(deb)]).decode().strip()
        entries.append(
            f"{control}\nFilename: ./{deb.name}\nSize: {len(data)}\nSHA256: {sha256(data).hexdigest()}\n"
        )
    packages = "\n".join(entries).encode()
    (pool / "Packages").write_bytes(packages)
    date = _run(["date", "-Ru"], LC_ALL="C").decode().strip()
    (pool / "Release").write_text(
        f"Date: {date}\nSHA256:\n {sha256(packages).hexdigest()} {len(packages)} Packages\n"
    )
    _run([*gpg, "--clearsign", "--output", str(pool / "InRelease"), str(pool / "Release")])


def _run(command: list[str], **environment: str) -> bytes:
    done = subprocess.run(
        command, capture_output=True, check=False, timeout=60, env={**os.environ, **environment}
    )
    assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
    return done.stdout
