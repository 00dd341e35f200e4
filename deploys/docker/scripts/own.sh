# shellcheck shell=sh

: "${folder?}" "${name?}" "${mark?}"
for file in "$folder"/*/"$name"; do
    grep -qxF "$mark" "$file" 2>/dev/null || continue
    if [ "$(ls -A "${file%/*}")" = "$name" ]; then echo "${file%/*}"; else echo "$file"; fi
done
true
