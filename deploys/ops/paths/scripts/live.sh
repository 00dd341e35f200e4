# shellcheck shell=sh

: "${ownership?}" "${file?}" "${mode?}" "${dest?}" "${record?}" "${digest?}" "${form?}"
set -eu
umask 077
chown "$ownership" "$file"
chmod "$mode" "$file"
if [ "$file" != "$dest" ]; then
    # Or a power cut might leave the name, and the record of the digest, to a file that is still empty.
    sync "$file"
    mv -fT "$file" "$dest"
    rm -f "$dest".*.part
fi
mkdir -p "$(dirname "$record")"
printf '%s %s\n%s\n' "$digest" "$(stat -c "$form" "$dest")" "$dest" > "$record"
