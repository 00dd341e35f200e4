# shellcheck shell=sh

: "${file?}" "${names?}"
set -eu
umask 077
mkdir -p "${file%/*}"
printf '%s' "$names" > "$file.new"
mv -f "$file.new" "$file"
