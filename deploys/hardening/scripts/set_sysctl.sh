# shellcheck shell=sh

: "${refused?}" "${before?}" "${retired?}" "${resisting?}" "${required?}" "${pending?}"
set -u
umask 077
mkdir -p "${refused%/*}"
touch "$before"
file_of() { printf /proc/sys/; printf %s "$1" | tr ./ /.; }
shown() { tr '\t' ' ' < "$1" 2>/dev/null; }
while IFS='=' read -r key value; do
    [ "$key" ] || continue
    file=$(file_of "$key")
    # If it cannot be reset now, a reboot does so: the file no longer contains it.
    if [ -w "$file" ]; then printf '%s\n' "$value" 2>/dev/null > "$file" || true; fi
    awk -v "key=$key=" 'index($0, key) != 1' "$before" > "$before.new" && mv -f "$before.new" "$before"
done <<END
$retired
END
list=$resisting
failed=
while IFS='=' read -r key value; do
    [ "$key" ] || continue
    file=$(file_of "$key")
    old=$(cat "$file" 2>/dev/null)
    if [ -e "$file" ] && printf '%s\n' "$value" 2>/dev/null > "$file"; then
        awk -v "key=$key=" 'index($0, key) == 1 {found = 1} END {exit !found}' "$before" ||
            printf '%s=%s\n' "$key" "$old" >> "$before"
        now=$(shown "$file")
        [ "$now" = "$value" ] || why="the kernel made $now of $value: declare $now"
    elif [ ! -e "$file" ]; then why="this host does not know it"
    else why="this host does not let it be set to $value"; fi
    case " $required " in
        *" $key "*) [ ! "${why-}" ] || { echo "kernel setting $key: $why" >&2; failed=1; } ;;
        *) [ ! "${why-}" ] || list="$list
$key" ;;
    esac
    unset why
done <<END
$pending
END
printf '%s\n' "$list" | sed '/^$/d' | sort -u > "$refused.new" && mv -f "$refused.new" "$refused"
[ ! -s "$refused" ] || echo "this host refuses: $(tr '\n' ' ' < "$refused")" >&2
[ ! "$failed" ]
