# shellcheck shell=sh
# Components of an earlier version without a record are recognised by their files.

. deploys/nvidia/scripts/gpus.sh
: "${paths?}"
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
# As in deploys.disk.devices: no memory, network or removable medium, and not too small.
echo "data_disk_mb=$(lsblk -bnro NAME,TYPE,SIZE,RM,MOUNTPOINT,PKNAME 2>/dev/null | awk '
    $2 != "disk" {used[$NF] = 1; next}
    $1 !~ /^(zram|ram|nbd|fd|loop|sr)[0-9]/ && $3 >= 335544320 && $4 == 0 {size[$1] = $3}
    NF > 4 {used[$1] = 1}
    END {
        for (name in size) if (!used[name]) {n++; found = size[name]}
        print n == 1 ? int(found / 1048576) : 0
    }')"
