# shellcheck shell=sh
# shellcheck disable=SC2086  # `$running` and `$chains` are lists of words, `$table` is family and name
# Before its programs are removed. Debian's package would delete images and volumes when purged, if it found
# its program for that.

: "${table?}"
if docker version >/dev/null 2>&1; then
    running=$(docker ps --quiet)
    [ ! "$running" ] || docker stop --time 35 $running >/dev/null
fi
systemctl disable --now docker.socket docker.service containerd.service 2>/dev/null
chmod -f -x /usr/share/docker.io/contrib/nuke-graph-directory.sh /var/lib/docker/nuke-graph-directory.sh
for program in iptables ip6tables; do
    { command -v $program >/dev/null && $program -n -L DOCKER >/dev/null 2>&1; } || continue
    family=$([ $program = iptables ] && echo ip || echo ip6)
    $program -P FORWARD ACCEPT
    for of in filter nat raw; do
        $program-save -t $of 2>/dev/null | grep -E -e '^-A .*(DOCKER|docker0|br-[0-9a-f]{12})' |
            sed 's/^-A/-D/' | xargs -r -L 1 $program -t $of
        chains=$($program-save -t $of 2>/dev/null | sed -n 's/^:\(DOCKER[^ ]*\) .*/\1/p')
        for chain in $chains; do $program -t $of -F $chain; done
        for chain in $chains; do $program -t $of -X $chain; done
        [ "$($program-save -t $of 2>/dev/null | grep -c -e '^-A' -e '^:.* - ')" != 0 ] ||
            nft delete table $family $of 2>/dev/null
    done
done
for link in /sys/class/net/docker0 /sys/class/net/br-????????????; do
    [ ! -d "$link/bridge" ] || ip link delete "${link##*/}"
done
nft delete table $table 2>/dev/null
rmdir /etc/cni/net.d /etc/cni 2>/dev/null
true
