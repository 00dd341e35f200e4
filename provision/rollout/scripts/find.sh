# shellcheck shell=sh
# Sets `all` to the upstreams of nginx, and `name` to the bot's name there; exits when it has none.

: "${upstream?}" "${names?}"
[ -x "$upstream" ] || exit 0
all=$("$upstream" status) || exit
for name in $names ""; do
    [ -n "$name" ] || exit 0
    if printf '%s\n' "$all" | cut -d ' ' -f 1 | grep -qxF -e "$name"; then break; fi
done
