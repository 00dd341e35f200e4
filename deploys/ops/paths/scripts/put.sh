# shellcheck shell=sh

. deploys/ops/scripts/receive.sh
. deploys/ops/paths/scripts/originals.sh
: "${dest?}" "${belongs?}" "${suffix?}" "${check?}" "${group?}" "${mode?}"
set -eu
umask 077
keeper=$(keeper "$(dirname "$dest")")
if [ "$keeper" ]; then
    own_only "$dest" "$keeper" "$belongs"
    workplace=$(mktemp -d)
    trap 'rm -rf "$workplace"' EXIT
else
    workplace=$(dirname "$dest")
    trap 'rm -f "$temporary"' EXIT
fi
trap 'exit 129' HUP INT TERM
temporary=$(mktemp --suffix="$suffix" "$workplace/.clawd-XXXXXX")
receive "$temporary"
{ eval "$check"; } >&2
if [ "$keeper" ]; then
    keep "$dest"
    as_keeper "$keeper" sh -c "$place" sh "$dest" "$group" "$mode" < "$temporary"
    exit
fi
chown "$belongs:$group" "$temporary"
chmod "$mode" "$temporary"
keep "$dest"
mv -fT "$temporary" "$dest"
trap - EXIT
