# shellcheck shell=sh
# Handles programs that take a lock between the wait and the command.

. deploys/ops/debian/scripts/holder.sh
: "${options?}"
set -u
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C
apt() {
    unlocked || return
    # shellcheck disable=SC2086  # $options are several arguments
    apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold $options "$@" </dev/null
}
unlocked() {
    tries=120
    while held=$(holder); [ "$held" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "apt is in use: process ${held% *} holds ${held##* }" >&2; return 1; }
        sleep 1
    done
}
if [ "$(ls -A /var/lib/dpkg/updates 2>/dev/null)" ]; then
    unlocked || exit 1
    dpkg --configure -a --force-confdef --force-confold </dev/null || exit 1
fi
