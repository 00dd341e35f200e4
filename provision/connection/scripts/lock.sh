# shellcheck shell=sh

: "${file?}" "${holder?}" "${seconds?}"
set -eu
umask 077
mkdir -p "${file%/*}"
exec 9>>"$file"
if flock -n 9; then
    printf '%s\n' "$holder" >"$file" || true
    echo held
    while [ "$(timeout "$seconds" head -c 1 9>&-)" ]; do :; done
    : >"$file"
else
    echo busy
    cat "$file"
fi
