# shellcheck shell=sh

: "${ownership?}" "${file?}" "${mode?}" "${dest?}" "${record?}" "${digest?}" "${form?}"
set -eu
umask 077
chown "$ownership" "$file"
chmod "$mode" "$file"
if [ "$file" != "$dest" ]; then
    # Otherwise after a power cut the name, and the record of the digest, might refer to an empty file.
    sync "$file"
    mv -fT "$file" "$dest"
    rm -f "$dest".*.part
fi
mkdir -p "$(dirname "$record")"
printf '%s %s\n%s\n' "$digest" "$(stat -c "$form" "$dest")" "$dest" > "$record"
