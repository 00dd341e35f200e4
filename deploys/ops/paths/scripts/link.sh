# shellcheck shell=sh

. deploys/ops/paths/scripts/originals.sh
: "${path?}" "${target?}"
set -eu
keeper=$(keeper "$(dirname "$path")")
if [ "$keeper" ]; then echo "$path would be in a folder of $keeper, who may replace it" >&2; exit 1; fi
if [ -d "$path" ] && [ ! -L "$path" ]; then echo "$path is a folder: remove it first" >&2; exit 1; fi
temporary=$(mktemp -u "${path%/*}/.clawd-XXXXXX")
trap 'rm -f "$temporary"' EXIT
ln -s "$target" "$temporary"
keep "$path"
mv -fT "$temporary" "$path"
