# shellcheck shell=sh

: "${home?}" "${name?}"
set -eu
packages=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' 'prometheus*' 'alertmanager*' 2>/dev/null |
    grep ' installed$' || true)
[ -z "$packages" ] || exit 0
find "$home" -mindepth 1 -type d -empty -delete 2>/dev/null || true
rmdir "$home" 2>/dev/null || true
[ -z "$(find /var/lib -mindepth 1 -maxdepth 1 -user "$name")" ] || exit 0
! pgrep -u "$name" >/dev/null || exit 0
userdel "$name"
! getent group "$name" >/dev/null || groupdel "$name"
