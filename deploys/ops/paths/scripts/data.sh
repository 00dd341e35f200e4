# shellcheck shell=sh

. deploys/ops/paths/scripts/taken.sh
: "${given?}" "${note?}" "${released?}"
tab=$(printf '\t')
{ printf '%s\n' "$given"; cat "$note" 2>/dev/null; } | sort -u -t "$tab" -k 1,1 |
    while IFS= read -r line; do
        path=$(printf '%s' "$line" | cut -f 1) what=$(printf '%s' "$line" | cut -f 2)
        unit=$(printf '%s' "$line" | cut -f 3) user=$(printf '%s' "$line" | cut -f 4)
        case $path in
            '') continue ;;
            /dev/*) [ -b "${path%%:*}" ] || continue; size= ;;
            *)
                [ -e "$path" ] || [ -L "$path" ] || continue
                if mountpoint -q "$path" && [ -z "$(ls -A "$path")" ]; then continue; fi
                size=$(timeout 20 du -skx "$path" 2>/dev/null | cut -f 1)
                ;;
        esac
        noted=new used=free
        ! cut -f 1 "$note" 2>/dev/null | grep -qxF -e "$path" || noted=noted
        [ -z "$unit" ] || [ "$(systemctl show -P LoadState "$unit" 2>/dev/null)" != loaded ] || used=used
        case $path in
            /dev/*:*)
                device=${path%%:*}
                if printf '%s\n' "$released" | grep -qxF -e "$device"; then ! listed "$device" || used=used
                elif taken "$device"; then used=used
                fi
                ;;
            /dev/*) used=used ;;
        esac
        printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$path" "$what" "${size:--}" "$noted" "$used" "${user:--}"
    done
