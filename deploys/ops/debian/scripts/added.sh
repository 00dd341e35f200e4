# shellcheck shell=sh
# A file with a line break in its name would be two in a list; what is mounted in a folder is not looked at,
# and a purge goes through it.

. deploys/ops/paths/scripts/originals.sh
: "${packages?}" "${folders?}" "${mounts?}"
# shellcheck disable=SC2086  # a list of words
known=$(dpkg-query -L $packages 2>/dev/null | grep -e "^$etc/")
own() {  # own: the folders right in /etc that $packages alone have, but those that programs fill for all
    printf '%s\n' "$known" | grep -x -e "$etc/[^/]*" | while IFS= read -r folder; do
        case $folder in "$etc/ssl"|"$etc/apparmor.d") continue ;; esac
        [ -d "$folder" ] || continue
        # shellcheck disable=SC2086  # a list of words
        package_of "$folder" | grep -qvxF -e "$(printf '%s\n' $packages)" || printf '%s\n' "$folder"
    done
}
declared() {  # declared: a line `FOLDER<TAB>PATTERN...` for each of $folders that is there
    { if [ "$folders" = '*' ]; then own; else printf '%s\n' "$folders"; fi; } | while IFS= read -r line; do
        folder=${line%%	*}
        [ ! -d "$folder" ] || [ -L "$folder" ] || printf '%s\n' "$line"
    done
}
obstacles() {  # obstacles: why a purge would not leave in $folders what was added
    declared | cut -f 1 | while IFS= read -r folder; do
        awk -v "folder=$folder" '$5 == folder || index($5, folder "/") == 1 {
            print "something is mounted on " $5 ", which removing the packages would empty" }' "$mounts"
        find "$folder" -xdev -name '*
*' | grep -q . && echo "a file in $folder has a line break in its name"
    done
    true
}
added() {  # added: what is in $folders and not of $packages
    noted=$(cat "$mine/ours" 2>/dev/null)
    declared | while IFS= read -r line; do
        folder=${line%%	*}
        generated=$(printf '%s' "$line" | cut -s -f 2- | tr '\t' '\n')
        there=$(find "$folder" -xdev ! -type d) || exit
        printf '%s\n' "$there" | without "$known" | without "$noted" | while IFS= read -r file; do
            case $file in ''|*.dpkg-*|*.ucf-*) continue ;; esac
            made "$folder" "$file" || wrote "$file" || { named "$file" && younger "$file"; } ||
                printf '%s\n' "$file"
        done || exit
    done
}
