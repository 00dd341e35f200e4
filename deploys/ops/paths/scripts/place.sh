# shellcheck shell=sh
# Arguments: PATH GROUP MODE. Write standard input to PATH, whole or not at all.

umask 077
new=$(mktemp "${1%/*}/.clawd-XXXXXX") || exit
{ cat > "$new" && chgrp "$2" "$new" && chmod "$3" "$new" && mv -fT "$new" "$1"; } || { rm -f "$new"; exit 1; }
