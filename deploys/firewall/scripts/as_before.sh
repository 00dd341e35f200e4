# shellcheck shell=sh
# Without the line that flushes the rules of other programs, and only where its tables are missing.

: "${enabled?}" "${config?}"
case $(cat "$enabled" 2>/dev/null) in
    disabled) systemctl disable --quiet nftables; exit ;;
    enabled) ;;
    *) exit 0 ;;
esac
present() {
    sed -n 's/^ *table \([a-z0-9]*\) \([^ {]*\).*/\1 \2/p' "$config" | while read -r family name; do
        nft list table "$family" "$name" >/dev/null 2>&1 && echo "$name"
    done
}
[ "$(present)" ] || grep -v '^ *flush ruleset' "$config" | nft -f -
