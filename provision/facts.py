"""What a host says of itself: one shell script, one round trip, nothing changed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from deploys.nvidia.gpus import GPUS
from inventory.errors import HostError
from provision.session import CommandResult

CONNECT_S = 5
"""How long a package mirror may take to accept a connection."""
MOST_MIRRORS = 6


@dataclass(frozen=True, slots=True)
class FileSystem:
    """Where a path lies or would lie, in MB: the device, its size, what is free, and what the path holds."""

    device: str
    size_mb: int
    free_mb: int
    used_mb: int


@dataclass(frozen=True, slots=True)
class Listener:
    """A program that listens on a TCP port, and the systemd unit it belongs to; empty when not known.

    Of a container, `unit` is `docker/NAME`.
    """

    program: str
    unit: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a host is. Sizes in MB, `epoch` in seconds of the host's own clock.

    `components` are those that an earlier run brought. `mirrors` says of each package mirror (`address:port`,
    or the proxy in front of all) whether it accepts a connection; empty where none was asked. `data_disk_mb`
    is the size of the only disk that nothing is on or mounted from, 0 when there is none or more. `gpus` are
    those of NVIDIA on its bus, `None` where that was not told; their memory is known only with a driver.
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
    listeners: Mapping[int, Listener]
    mirrors: Mapping[str, bool]
    data_disk_mb: int
    gpus: int | None = None
    refused_settings: tuple[str, ...] = ()
    """Kernel settings that it did not let itself be set to (`deploys.hardening.sysctl`)."""

    @property
    def installed(self) -> bool:
        """Whether an earlier run was here, so that little more space is needed."""
        return bool(self.components)

    @classmethod
    def parse(cls, host: str, result: CommandResult) -> Self:
        """Reads the probe's output. Raises `HostError` when the probe failed or made no sense."""
        if not result.succeeded and "sudo" in result.stderr:
            raise HostError(
                f"{host}: sudo refused ({result.stderr.strip().splitlines()[-1]})",
                advice="give the login sudo for all commands, without a password or with `sudo_password` "
                f"under `hosts.{host}`, or connect as root",
            )
        lines = (line.partition("=") for line in result.stdout.splitlines())
        pairs = [(key, value) for key, equals, value in lines if equals]
        told: dict[str, str] = dict(pairs)

        def rows(name: str) -> list[list[str]]:
            return [value.split("|") for key, value in pairs if key == name]

        try:
            return cls(
                id=told["id"],
                version=told["version"],
                architecture=told["architecture"],
                uid=int(told["uid"]),
                cores=int(told["cores"]),
                memory_mb=int(told["memory_kb"]) // 1024,
                gpu_memory_mb=sum(int(row[0]) for row in rows("gpu_mb") if row[0].isdigit()),
                epoch=int(told["epoch"]),
                init=told["init"],
                components=frozenset(told["components"].split()),
                file_systems={
                    path: FileSystem(device, int(whole), int(free), int(used or 0))
                    for path, device, whole, free, used in rows("fs")
                },
                listeners={
                    int(port): Listener(program, unit)
                    for port, program, unit in rows("listens")
                    if port.isdigit()
                },
                mirrors={where: answer == "yes" for where, answer in rows("mirror")},
                data_disk_mb=int(told["data_disk_mb"] or 0),
                gpus=int(told["gpus"]) if told.get("gpus") else None,
                refused_settings=tuple(told.get("refused", "").split()),
            )
        except (KeyError, ValueError) as error:
            problem = result.stderr.strip() or result.stdout.strip() or "it printed nothing"
            raise HostError(
                f"{host}: it could not be examined: {problem}",
                advice="log in by hand and check that it is a Debian or Ubuntu server with a POSIX shell",
            ) from error


def probe(paths: Iterable[str], *, ask_mirrors: bool = True, more: str = "") -> str:
    """The script that tells a host's facts, and runs `more`; of `paths` the space matters."""
    wanted = " ".join(shlex.quote(path) for path in sorted({"/", *paths}))
    asked = _MIRRORS.replace("MOST", str(MOST_MIRRORS)).replace("SECONDS", str(CONNECT_S))
    return f"paths={shlex.quote(wanted)}\n{GPUS}{_PROBE}{more}{asked if ask_mirrors else ''}\nexit 0\n"


# What an earlier version left no record of is known by what it left.
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
# Of a container, its name: that of an id, or of whoever publishes a port.
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

# A proxy that a script chooses is not asked. `file:` and `cdrom:` need no network.
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
