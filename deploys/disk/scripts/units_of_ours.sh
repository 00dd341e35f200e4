# shellcheck shell=sh

: "${units?}"
for file in "$units"/*.mount; do
    grep -qs '^Component=disk$' "$file" || continue
    of() { sed -n "s/^$1=//p" "$file" | head -n 1; }
    users=
    for user in $(of Users); do
        [ "$(systemctl show -P LoadState "$user" 2>/dev/null)" = not-found ] || users="$users $user"
    done
    printf '%s|%s|%s|%s\n' "${file##*/}" "$(of Where)" "$(of What)" "$users"
done
