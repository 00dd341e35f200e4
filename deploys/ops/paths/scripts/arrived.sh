# shellcheck shell=sh

: "${file?}" "${digest?}" "${dest?}"
actual=$(sha256sum < "$file" | cut -c1-64)
if [ "$actual" != "$digest" ]; then
    rm -f "$file"
    echo "$dest: what arrived has SHA-256 $actual, expected $digest; it was removed, the old file stays" >&2
    exit 1
fi
