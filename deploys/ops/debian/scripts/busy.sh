# shellcheck shell=sh
# `cloud-init status --wait` prints nothing until it ends; this checks for the same states. Before its first
# run, wait only while systemd has a job to start it: if it is masked, it never starts.

. deploys/ops/debian/scripts/holder.sh
export LC_ALL=C
booting() {
    command -v cloud-init >/dev/null || return 0
    status=$(timeout 20 cloud-init status 2>/dev/null | sed -n 's/^status: //p')
    case $status in
        running) ;;
        "not run"|"not started") systemctl list-jobs --no-legend 2>/dev/null | grep -q cloud- || return 0 ;;
        *) return 0 ;;
    esac
    echo "cloud-init $status"
}
busy=$(booting)
if [ "$busy" ]; then echo "$busy"; exit; fi
found=$(holder)
[ ! "$found" ] || echo "lock $found"
