# shellcheck shell=sh

. deploys/ops/paths/scripts/originals.sh
: "${path?}"
careful "$path" || exit 0
files=$(find "$path" -xdev ! -type d | without "$(noted)" | while IFS= read -r file; do
    wrote "$file" || { named "$file" && younger "$file"; } || made "$path" "$file" || printf '%s\n' "$file"
done)
[ ! "$files" ] || printf '%s\n' "$files" | without "$(printf '%s\n' "$files" | packaged)"
