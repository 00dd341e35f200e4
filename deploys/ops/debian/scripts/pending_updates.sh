# shellcheck shell=sh

. deploys/ops/debian/scripts/pending.sh
: "${record?}" "${daily?}" "${unknown?}"
if [ -f "$record" ]; then
    read=$(stat -c %Y "$record" "$daily" 2>/dev/null | sort -n | tail -n 1)
    echo $((($(date +%s) - read) / 86400))
else echo never
fi
pending 2>/dev/null || echo "$unknown"
