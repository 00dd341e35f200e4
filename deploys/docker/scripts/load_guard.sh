# shellcheck shell=sh

. deploys/docker/scripts/live.sh
: "${stamp?}" "${config?}" "${digest?}"
set -eu
umask 077
mkdir -p "${stamp%/*}"
rm -f "$stamp"
nft -f "$config"
echo "$digest $(live)" > "$stamp"
