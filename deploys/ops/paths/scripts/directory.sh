# shellcheck shell=sh

. deploys/ops/paths/scripts/originals.sh
: "${path?}" "${belongs?}" "${settle?}" "${group?}" "${mode?}"
set -eu
if [ -L "$path" ]; then echo "$path is a link, not a folder: remove it first" >&2; exit 1; fi
keeper=$(keeper "$(dirname "$path")")
if [ "$keeper" ]; then
    own_only "$path" "$keeper" "$belongs"
    [ -d "$path" ] || as_keeper "$keeper" mkdir -p -m 0700 "$path"
    [ "$(stat -c %U "$path")" = "$belongs" ] || python3 -I -c "$settle" "$path" "$belongs" 0700
    as_keeper "$keeper" chgrp "$group" "$path"
    as_keeper "$keeper" chmod "$mode" "$path"
    exit
fi
keep_folder "$path"
[ -d "$path" ] || (umask 022; mkdir -p "$(dirname "$path")"; mkdir -m 0700 "$path")
chown "$belongs:$group" "$path"
chmod "$mode" "$path"
