"""Programs of this machine: running and installing them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence

from inventory.errors import SandboxError

ReportSandboxProgress = Callable[[str, float | None], None]
"""A function that receives a message and the progress (0 to 1, `None` when unknown)."""

PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "zstd": "zstd",
    "tar": "tar",
}
"""The programs that the sandbox runs, and their Debian packages."""


def silent(message: str, fraction: float | None) -> None:
    """Ignore the progress."""


def run(
    command: Sequence[str], *, stdin: str | None = None, timeout: float = 60, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a program of this machine. Raises `SandboxError` with its output when it fails."""
    try:
        done = subprocess.run(
            list(command), input=stdin, text=True, capture_output=True, timeout=timeout, check=False
        )
    except FileNotFoundError as missing:
        raise SandboxError(
            f"cannot run {command[0]}: it is not installed on this machine",
            advice=install_advice([command[0]]),
        ) from missing
    except subprocess.TimeoutExpired as late:
        raise SandboxError(
            f"{' '.join(command)} did not end within {timeout:.0f} s",
            advice="run it by hand to see what it waits for",
        ) from late
    if check and done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-8:]
        raise SandboxError(
            f"{' '.join(command[:6])} failed with exit code {done.returncode}: " + "\n  ".join(words)
        )
    return done


def missing_tools() -> tuple[str, ...]:
    """Return the programs that the sandbox needs but this machine lacks."""
    return tuple(tool for tool in PACKAGES if shutil.which(tool, path=_search_path()) is None)


def install_advice(tools: Sequence[str]) -> str:
    """Return the hint to install `tools`."""
    packages = sorted({PACKAGES.get(tool, tool) for tool in tools})
    return f"run `sudo apt-get install {' '.join(packages)}`"


def install_command(tools: Sequence[str]) -> list[str]:
    """Return the apt command that installs `tools`."""
    packages = sorted({PACKAGES[tool] for tool in tools})
    return ["apt-get", "install", "--yes", "--no-install-recommends", *packages]


def ensure_tools(
    progress: ReportSandboxProgress = silent, tools: Sequence[str] = tuple(PACKAGES)
) -> tuple[str, ...]:
    """Install the missing Debian packages of these programs and return the programs.

    Raises `SandboxError` with the command to run when they cannot be installed.
    """
    missing = tuple(tool for tool in missing_tools() if tool in tools)
    if not missing:
        return ()
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SandboxError(
            f"cannot start the sandbox: not installed: {', '.join(missing)}",
            advice=install_advice(missing),
        )
    progress(f"installing {', '.join(missing)}", None)
    os.environ.setdefault("DEBIAN_FRONTEND", "noninteractive")
    if run(install_command(missing), timeout=600, check=False).returncode != 0:
        run(["apt-get", "update"], timeout=300)
        run(install_command(missing), timeout=600)
    return missing


def _search_path() -> str:
    # An ordinary user's PATH often lacks the folders of ip, nft and mmdebstrap's helpers.
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
