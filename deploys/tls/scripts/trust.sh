# shellcheck shell=sh

. deploys/ops/scripts/receive.sh
: "${path?}" "${owner?}"
set -eu
umask 022
receive "$path.new"
chown "$owner" "$path.new"
chmod 0644 "$path.new"
mv -fT "$path.new" "$path"
