# shellcheck shell=sh

: "${records?}" "${folder?}"
for record in "$records"/*; do
    [ -f "$record" ] || continue
    case $(sed -n 2p "$record") in "$folder"/*) echo "$record" ;; esac
done
