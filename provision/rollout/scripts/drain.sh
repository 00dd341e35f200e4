# shellcheck shell=sh
# A front without another bot is left unchanged, because it has no other destination.

. provision/rollout/scripts/find.sh
: "${seconds?}"
[ "$(printf '%s\n' "$all" | wc -l)" -gt 1 ] || exit 0
"$upstream" drain "$name" "$seconds"
