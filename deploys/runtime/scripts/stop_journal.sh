# shellcheck shell=sh
# systemd 257 cancels the job of one socket when that of the other ends: only the final state counts.

: "${namespace?}"
for unit in "systemd-journald-varlink@$namespace.socket" "systemd-journald@$namespace.socket" \
    "systemd-journald@$namespace.service"; do
    systemctl stop "$unit" 2>/dev/null || true
done
systemctl reset-failed "systemd-journald*@$namespace.*" 2>/dev/null || true
! systemctl is-active --quiet "systemd-journald@$namespace.service" "systemd-journald@$namespace.socket"
