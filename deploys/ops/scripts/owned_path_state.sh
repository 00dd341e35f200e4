# shellcheck shell=sh

. deploys/ops/paths/scripts/originals.sh
: "${path?}"
echo "original $(original "$path")"
. deploys/ops/scripts/path_state.sh
