# shellcheck shell=sh

: "${archive?}" "${folder?}" "${link?}"
printf 'link=%s\n' "$([ -z "$link" ] || basename "$(readlink "$link")")"
printf 'good=%s\n' "$([ -z "$link" ] || [ ! -f "$archive" ] || {
    target=$(tar -tvf "$archive" "${link#/}" 2>/dev/null | sed -n 's/.* -> //p')
    basename "$target"
})"
[ ! -d "$folder" ] || ls -1At "$folder"
