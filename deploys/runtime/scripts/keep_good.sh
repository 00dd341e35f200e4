# shellcheck shell=sh

: "${kept?}" "${archive?}" "${runs?}" "${models?}" "${suffix?}"
set -eu
umask 077
cd /
rm -f /var/lib/clawd/state/previous.tar /var/lib/clawd/state/previous.runs
. deploys/runtime/scripts/passed.sh
if passed; then
    there=
    for path in $kept; do
        if [ -e "$path" ] || [ -L "$path" ]; then there="$there $path"; fi
    done
    # shellcheck disable=SC2086  # a list of paths
    tar -cf "$archive.new" $there
    sync "$archive.new"
    mv "$archive.new" "$archive"
    rm -f "$models"/*"$suffix"
fi
invocations > "$runs"
if [ -f "$archive" ]; then echo kept; fi
