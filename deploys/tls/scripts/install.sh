# shellcheck shell=sh
# A reader gets either the old pair or the new one: both files change with one link.

. deploys/ops/scripts/receive.sh
: "${serials?}" "${serial?}" "${current?}" "${owner?}"
set -eu
umask 077
fresh="$serials/$serial"
# One that is installed again keeps its pair until the link changes. What else is there, a run left that was
# cut off.
[ "$(readlink -f "$current")" != "$(readlink -f "$fresh")" ] || fresh="$fresh-again"
rm -rf "$fresh" "$current.new"
trap 'rm -rf "$fresh"' EXIT
mkdir "$fresh"
receive "$fresh/fullchain.pem"
receive "$fresh/privkey.pem"
receive "$fresh/ca.pem"
[ -s "$fresh/ca.pem" ] || rm "$fresh/ca.pem"
chown "$owner" "$fresh"/*
chmod 0755 "$serials" "$fresh"
find "$fresh" -name '*.pem' ! -name privkey.pem -exec chmod 0644 {} +
[ -L "$current" ] || rm -rf "$current"
ln -s "${serials##*/}/${fresh##*/}" "$current.new"
mv -fT "$current.new" "$current"
trap - EXIT
find "$serials" -mindepth 1 -maxdepth 1 ! -name "${fresh##*/}" -exec rm -rf {} +
