# shellcheck shell=sh

: "${version?}" "${name?}"
set -eu
[ ! -f "/etc/postgresql/$version/$name/postgresql.conf" ] || exit 0
pg_createcluster "$version" "$name"
systemctl daemon-reload
