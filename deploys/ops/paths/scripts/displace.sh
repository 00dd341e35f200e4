# shellcheck shell=sh

. deploys/ops/paths/scripts/originals.sh
: "${path?}"
set -e
keep "$path"
rm -rf -- "$path"
