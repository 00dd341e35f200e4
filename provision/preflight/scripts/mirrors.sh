# shellcheck shell=sh
# A proxy that a script chooses is not checked. `file:` and `cdrom:` need no network.

: "${most?}" "${seconds?}"
if command -v apt-get >/dev/null && ! apt-config dump 2>/dev/null | grep -qi 'Proxy-Auto-Detect "..*"'; then
    apt-get update --print-uris 2>/dev/null | sed -n "s|^'\(https*://[^/]*\)/.*|\1|p" |
    sort -u | head -n "$most" | {
    while read -r site; do
        scheme=${site%%:*}; proxy=
        eval "$(apt-config shell proxy "Acquire::$scheme::Proxy" 2>/dev/null)"
        if [ -n "$proxy" ] && [ "$proxy" != DIRECT ]; then site=$proxy; scheme=${site%%:*}; fi
        address=${site#*://}; address=${address%%/*}; address=${address##*@}
        port=${address##*:}
        case $port in
            "$address"|""|*[!0-9]*) host=$address; port=80; [ "$scheme" = http ] || port=443 ;;
            *) host=${address%:*} ;;
        esac
        host=${host#[}; host=${host%]}
        (
            # shellcheck disable=SC2016  # parameters of bash
            if timeout "$seconds" bash -c ': < "/dev/tcp/$0/$1"' "$host" "$port" 2>/dev/null; then answer=yes
            else answer=no; fi
            echo "mirror=$host:$port|$answer"
        ) &
    done | sort -u
    wait; }
fi
