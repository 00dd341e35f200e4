# shellcheck shell=sh

: "${before?}" "${refused?}"
while IFS='=' read -r key value; do
    file=/proc/sys/$(printf %s "$key" | tr ./ /.)
    [ ! -w "$file" ] || printf '%s\n' "$value" > "$file" 2>/dev/null || true
done < "$before"
rm -f "$before" "$refused"
