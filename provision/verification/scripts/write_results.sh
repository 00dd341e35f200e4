# shellcheck shell=sh
# Arguments: COMPONENT RECORD...

: "${folder?}" "${run?}"
[ -d "${folder%/*}" ] || exit 0
umask 077
{ mkdir -p "$folder" && cd "$folder"; } || exit 1
while [ $# -gt 0 ]; do
    if [ -z "$run" ] || grep -qsF "$run" "$1"; then
        { printf '%s\n' "$2" > ".$1.new" && sync ".$1.new" && mv ".$1.new" "$1"; } || exit 1
    fi
    shift 2
done
