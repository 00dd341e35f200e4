"""Facts of a host, read by one shell script in one round trip without changing anything."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from deploys.nvidia.gpus import GPUS
from inventory.errors import HostError
from provision.connection.session import CommandResult

CONNECT_S = 5
"""Seconds within which a package mirror must accept a connection."""
MOST_MIRRORS = 6


@dataclass(frozen=True, slots=True)
class FileSystem:
    """The file system of a path, in MB: its device, its size, free space, and the size of the path."""

    device: str
    size_mb: int
    free_mb: int
    used_mb: int


@dataclass(frozen=True, slots=True)
class PortListener:
    """A program that listens on a TCP port, and its systemd unit; empty when unknown.

    For a container, `unit` is `docker/NAME`.
    """

    program: str
    unit: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The facts of a host. Sizes are in MB, `epoch` in seconds of the host's own clock.

    `components` are those of earlier runs. `mirrors` has for each package mirror (`address:port`, or the
    proxy in front of all) whether it accepts a connection; empty when none was checked. `data_disk_mb` is the
    size of the only unused disk, 0 when there is none or more than one. `gpus` is the number of NVIDIA GPUs
    on the bus, `None` when unknown; their memory is known only with a driver.
    """

    id: str
    version: str
    architecture: str
    uid: int
    cores: int
    memory_mb: int
    gpu_memory_mb: int
    epoch: int
    init: str
    components: frozenset[str]
    file_systems: Mapping[str, FileSystem]
    listeners: Mapping[int, PortListener]
    mirrors: Mapping[str, bool]
    data_disk_mb: int
    gpus: int | None = None
    refused_settings: tuple[str, ...] = ()
    """Kernel settings that the host refused (`deploys.hardening.sysctl`)."""

    @property
    def installed(self) -> bool:
        """Return whether an earlier run has installed components, so that little more space is needed."""
        return bool(self.components)

    @classmethod
    def parse(cls, host: str, result: CommandResult) -> Self:
        """Return the facts from the probe's output. Raises `HostError` when the probe failed."""
        if not result.succeeded and "sudo" in result.stderr:
            raise HostError(
                f"{host}: sudo refused ({result.stderr.strip().splitlines()[-1]})",
                advice="give the login sudo for all commands, without a password or with `sudo_password` "
                f"under `hosts.{host}`, or connect as root",
            )
        lines = (line.partition("=") for line in result.stdout.splitlines())
        pairs = [(key, value) for key, equals, value in lines if equals]
        values: dict[str, str] = dict(pairs)

        def rows(name: str) -> list[list[str]]:
            return [value.split("|") for key, value in pairs if key == name]

        try:
            return cls(
                id=values["id"],
                version=values["version"],
                architecture=values["architecture"],
                uid=int(values["uid"]),
                cores=int(values["cores"]),
                memory_mb=int(values["memory_kb"]) // 1024,
                gpu_memory_mb=sum(int(row[0]) for row in rows("gpu_mb") if row[0].isdigit()),
                epoch=int(values["epoch"]),
                init=values["init"],
                components=frozenset(values["components"].split()),
                file_systems={
                    path: FileSystem(device, int(whole), int(free), int(used or 0))
                    for path, device, whole, free, used in rows("fs")
                },
                listeners={
                    int(port): PortListener(program, unit)
                    for port, program, unit in rows("listens")
                    if port.isdigit()
                },
                mirrors={where: answer == "yes" for where, answer in rows("mirror")},
                data_disk_mb=int(values["data_disk_mb"] or 0),
                gpus=int(values["gpus"]) if values.get("gpus") else None,
                refused_settings=tuple(values.get("refused", "").split()),
            )
        except (KeyError, ValueError) as error:
            problem = result.stderr.strip() or result.stdout.strip() or "it printed nothing"
            raise HostError(
                f"{host}: cannot read its facts: {problem}",
                advice="log in by hand and check that it is a Debian or Ubuntu server with a POSIX shell",
            ) from error


def probe(paths: Iterable[str], *, ask_mirrors: bool = True, more: str = "") -> str:
    """Return the script that prints a host's facts and the space at `paths`, and runs `more`."""
    wanted = " ".join(shlex.quote(path) for path in sorted({"/", *paths}))
    asked = _MIRRORS.replace("MOST", str(MOST_MIRRORS)).replace("SECONDS", str(CONNECT_S))
    return f"paths={shlex.quote(wanted)}\n{GPUS}{_PROBE}{more}{asked if ask_mirrors else ''}\nexit 0\n"


# Components of an earlier version without a record are recognised by their files.
_PROBE = r"""
set -u
export LC_ALL=C
. /etc/os-release
echo "id=$ID"; echo "version=${VERSION_ID:-}"; echo "architecture=$(uname -m)"
echo "uid=$(id -u)"; echo "cores=$(nproc)"
echo "memory_kb=$(awk '/^MemTotal:/ {print $2}' /proc/meminfo)"
echo "epoch=$(date +%s)"; echo "init=$(cat /proc/1/comm)"
components=$(cat /var/lib/clawd/state/components 2>/dev/null | tr '\n' ' ')
[ ! -d /opt/clawd/releases ] || components="$components runtime base"
[ ! -e /etc/systemd/system/nginx.service.d/clawd.conf ] || components="$components nginx"
echo "components=$components"
echo "refused=$(cat /var/lib/clawd/state/sysctl.refused 2>/dev/null | tr '\n' ' ')"
for path in $paths; do
    folder=$path; while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    used=0; [ "$path" = / ] || used=$(timeout 10 du -sxm "$path" 2>/dev/null | cut -f1)
    df -Pm "$folder" 2>/dev/null | awk -v path="$path" -v used="$used" -v OFS='|' '
        NR == 2 {print "fs=" path, $1, $2, $4, used}'
done
# Names of containers: by id, or by a published port.
container() { timeout 5 docker inspect --format '{{.Name}}' "$1" 2>/dev/null | tr -d /; }
publisher() { timeout 5 docker ps --filter "publish=$1" --format '{{.Names}}' 2>/dev/null | head -n 1; }
! command -v ss >/dev/null || ss -Hltnp 2>/dev/null | while read -r _ _ _ local _ process; do
    program=${process#*\"}; program=${program%%\"*}
    pid=${process#*pid=}; pid=${pid%%,*}
    # A container's group is named docker/<id> or docker-<id>.scope.
    unit=$(grep -oE '[^/]*\.service$|docker[-/][0-9a-f]{12}' "/proc/$pid/cgroup" 2>/dev/null | head -n 1)
    case $program:$unit in
        docker-proxy:*) unit="docker/$(publisher "${local##*:}")" ;;
        *:docker[-/]*) unit="docker/$(container "${unit#docker?}")" ;;
    esac
    echo "listens=${local##*:}|$program|$unit"
done
echo "gpus=$(gpus "" | wc -l)"
! command -v nvidia-smi >/dev/null ||
    nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null | sed 's/^/gpu_mb=/'
# As deploys.disk.devices has it: neither memory, network nor medium that can be taken out, nor too small.
echo "data_disk_mb=$(lsblk -bnro NAME,TYPE,SIZE,RM,MOUNTPOINT,PKNAME 2>/dev/null | awk '
    $2 != "disk" {used[$NF] = 1; next}
    $1 !~ /^(zram|ram|nbd|fd|loop|sr)[0-9]/ && $3 >= 335544320 && $4 == 0 {size[$1] = $3}
    NF > 4 {used[$1] = 1}
    END {
        for (name in size) if (!used[name]) {n++; found = size[name]}
        print n == 1 ? int(found / 1048576) : 0
    }')"
"""

# A proxy that a script chooses is not checked. `file:` and `cdrom:` need no network.
_MIRRORS = r"""
if command -v apt-get >/dev/null && ! apt-config dump 2>/dev/null | grep -qi 'Proxy-Auto-Detect "..*"'; then
    apt-get update --print-uris 2>/dev/null | sed -n "s|^'\(https*://[^/]*\)/.*|\1|p" |
    sort -u | head -n MOST | {
    while read -r site; do
        scheme=${site%%:*}; proxy=
        eval "$(apt-config shell proxy "Acquire::$scheme::Proxy" 2>/dev/null)"
        if [ -n "$proxy" ] && [ "$proxy" != DIRECT ]; then site=$proxy; scheme=${site%%:*}; fi
        address=${site#*://}; address=${address%%/*}; address=${address##*@}
        port=${address##*:}
        case $port in
            "$address"|""|*[!0-9]*) host=$address; port=80; [ "$scheme" = http ] || port=443 ;;
            *) host=${address%:*} ;;
        esac
        host=${host#[}; host=${host%]}
        (
            if timeout SECONDS bash -c ': < "/dev/tcp/$0/$1"' "$host" "$port" 2>/dev/null; then answer=yes
            else answer=no; fi
            echo "mirror=$host:$port|$answer"
        ) &
    done | sort -u
    wait; }
fi
"""
