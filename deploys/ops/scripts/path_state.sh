# shellcheck shell=sh

: "${path?}" "${limit?}"
if [ -L "$path" ]; then echo link; readlink "$path"
elif [ -d "$path" ]; then
    stat -c 'directory|%a|%U|%G' "$path"
    if mountpoint -q "$path" && [ -z "$(ls -A "$path")" ]; then echo vacant; fi
elif [ -f "$path" ]; then
    stat -c 'file|%a|%U|%G' "$path"
    sha256sum < "$path" | cut -c1-64
    [ "$(stat -c %s "$path")" -gt "$limit" ] || { base64 -w0 "$path"; echo; }
elif [ -e "$path" ]; then echo other
else echo absent
fi
