# shellcheck shell=sh
# A login is kept in memory, readable only by root, until this ends.

. deploys/ops/scripts/receive.sh
: "${dest?}"
set -eu
umask 022
fresh="$dest.new"
login=$(mktemp -d /run/clawd-login.XXXXXX)
trap 'rm -rf "$fresh" "$login"' EXIT
rm -rf "$fresh"
mkdir -p "$fresh/unpacked" "$fresh/work" "$fresh/live"
receive "$fresh/build.py"
receive "$fresh/order.json"
receive "$fresh/live/container_supervisor.py"
receive "$login/config.json"
if [ -s "$login/config.json" ]; then export DOCKER_CONFIG="$login"; fi
