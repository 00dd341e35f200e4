# shellcheck shell=sh

. deploys/firewall/scripts/live.sh
: "${stamp?}" "${config?}"
live
cat "$stamp" 2>/dev/null || echo
if grep -qs "^table $table" "$config"; then echo written; else echo; fi
systemctl is-enabled nftables 2>/dev/null || true
