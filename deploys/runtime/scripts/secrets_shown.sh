# shellcheck shell=sh
# shellcheck disable=SC2086  # `$units` is a list of words
# Arguments: FOLDER UNITS. Print the files of FOLDER whose content others can see of these units.

cd "$1" || exit
units=$2
public() {
    systemctl show $units
    systemctl cat $units
    docker inspect $units 2>/dev/null
    cat /etc/clawd/*.json
    for unit in $units; do
        process=$(systemctl show --property MainPID --value "$unit")
        tr '\0' '\n' < "/proc/$process/cmdline"
        tr '\0' '\n' < "/proc/$process/environ"
    done
}
seen=$(public)
for secret in *; do
    [ -s "$secret" ] || continue
    case $seen in *"$(cat "$secret")"*) echo "$secret" ;; esac
done
