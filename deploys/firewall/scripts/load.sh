# shellcheck shell=sh
# Not by the unit: stopping or restarting it also flushes the tables of other programs.

. deploys/firewall/scripts/live.sh
: "${stamp?}" "${config?}" "${enabled?}" "${masked?}" "${digest?}"
set -eu
umask 077
rm -f "$stamp"
nft -f "$config"
mkdir -p "$(dirname "$stamp")"
[ -f "$enabled" ] || systemctl is-enabled nftables > "$enabled" 2>/dev/null || true
if [ "$(systemctl is-enabled nftables 2>/dev/null)" = masked ]; then
    touch "$masked"
    systemctl unmask --quiet nftables
fi
systemctl enable --quiet nftables
echo "$digest $(live)" > "$stamp"
