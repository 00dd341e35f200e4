# shellcheck shell=sh

: "${path?}" "${form?}" "${record?}"
if [ -L "$path" ] || [ ! -f "$path" ]; then
    if [ -e "$path" ]; then echo other; else echo absent; fi
else
    stat -c 'file|%a|%U|%G' "$path"
    identity=$(stat -c "$form" "$path")
    read -r digest known 2>/dev/null < "$record"
    if [ "${known-}" = "$identity" ]; then echo "$digest"; else sha256sum < "$path" | cut -c1-64; fi
fi
