"""Whether a host can become what the inventory says, found out before anything changes.

One shell script a host, one round trip; then pure rules over what it printed. All findings at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from deploys.supplies import ModelFile
from inventory.errors import HostError
from provision.session import CommandResult

SUPPORTED = {("debian", "12"), ("debian", "13"), ("ubuntu", "24.04")}
FREE_SYSTEM_MB = 1500
FREE_INSTALLED_MB = 150
MOST_CLOCK_SKEW_S = 120

PROBE = r"""
set -u
. /etc/os-release
echo "id=$ID"; echo "version=${VERSION_ID:-}"; echo "uid=$(id -u)"; echo "cores=$(nproc)"
echo "memory_kb=$(awk '/^MemTotal:/ {print $2}' /proc/meminfo)"
folder=/var/lib/clawd; while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
echo "free_mb=$(df -Pm "$folder" 2>/dev/null | awk 'NR==2 {print $4}')"
installed=0; if [ -d /opt/clawd/releases ] || [ -f /etc/nginx/nginx.conf ]; then installed=1; fi
echo "installed=$installed"
echo "epoch=$(date +%s)"; echo "init=$(cat /proc/1/comm)"
echo "models_mb=$(du -sm /var/lib/clawd/models 2>/dev/null | cut -f1)"
"""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a host is. Sizes in MB, `epoch` in seconds of the host's own clock.

    `installed` tells whether packages or releases are there already, so that little more space is needed.
    """

    id: str
    version: str
    uid: int
    cores: int
    memory_mb: int
    free_mb: int
    models_mb: int
    installed: bool
    epoch: int
    init: str

    @classmethod
    def parse(cls, host: str, result: CommandResult) -> Self:
        """Reads the probe's output. Raises `HostError` when the probe failed or made no sense."""
        if not result.succeeded and "sudo" in result.stderr:
            raise HostError(
                f"{host}: sudo refused ({result.stderr.strip().splitlines()[-1]})",
                advice="give the login passwordless sudo, or connect as root",
            )
        told = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
        try:
            return cls(
                id=told["id"],
                version=told["version"].strip('"'),
                uid=int(told["uid"]),
                cores=int(told["cores"]),
                memory_mb=int(told["memory_kb"]) // 1024,
                free_mb=int(told["free_mb"] or 0),
                models_mb=int(told["models_mb"] or 0),
                installed=told["installed"] == "1",
                epoch=int(told["epoch"]),
                init=told["init"],
            )
        except (KeyError, ValueError) as error:
            problem = result.stderr.strip() or result.stdout.strip() or "it printed nothing"
            raise HostError(
                f"{host}: it could not be examined: {problem}",
                advice="log in by hand and check that it is a Debian or Ubuntu server with a POSIX shell",
            ) from error


def findings(host: str, facts: HostFacts, model: ModelFile | None, now: datetime) -> tuple[str, ...]:
    """Everything that stands in the way on one host, each a sentence with what to do."""
    found: list[str] = []
    if (facts.id, facts.version) not in SUPPORTED:
        known = ", ".join(f"{name} {version}" for name, version in sorted(SUPPORTED))
        found.append(f"{host}: {facts.id} {facts.version} is not supported; supported are {known}")
    if facts.uid != 0:
        found.append(f"{host}: commands do not run as root; give the login passwordless sudo")
    if facts.init != "systemd":
        found.append(f"{host}: it is run by {facts.init}, not systemd; use a full server or virtual machine")
    needed = FREE_INSTALLED_MB if facts.installed or facts.models_mb else FREE_SYSTEM_MB
    if model and model.size and facts.models_mb * 2**20 < model.size:
        needed += model.size // 2**20
    if facts.free_mb < needed:
        found.append(
            f"{host}: not enough free space on /var/lib: {facts.free_mb} MB free, {needed} MB needed; "
            "free some (`df -h`, `journalctl --vacuum-size=200M`) or attach a larger disk"
        )
    skew = facts.epoch - int(now.astimezone(UTC).timestamp())
    if abs(skew) > MOST_CLOCK_SKEW_S:
        found.append(
            f"{host}: its clock is {abs(skew)} s {'ahead' if skew > 0 else 'behind'}; certificates and "
            "signatures would fail; check `timedatectl`"
        )
    return tuple(found)
