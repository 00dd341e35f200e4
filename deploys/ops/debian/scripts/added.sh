# shellcheck shell=sh
# A file name with a line break would count as two; mounted file systems in a folder are not searched, but a
# purge would delete their files.

. deploys/ops/paths/scripts/originals.sh
: "${packages?}" "${folders?}" "${mounts?}"
# shellcheck disable=SC2086  # a list of words
known=$(dpkg-query -L $packages 2>/dev/null | grep -e "^$etc/")
own() {  # own: folders directly in /etc that belong only to $packages, except those that all programs fill
    printf '%s\n' "$known" | grep -x -e "$etc/[^/]*" | while IFS= read -r folder; do
        case $folder in "$etc/ssl"|"$etc/apparmor.d") continue ;; esac
        [ -d "$folder" ] || continue
        # shellcheck disable=SC2086  # a list of words
        package_of "$folder" | grep -qvxF -e "$(printf '%s\n' $packages)" || printf '%s\n' "$folder"
    done
}
declared() {  # declared: print `FOLDER<TAB>PATTERN...` for each of $folders that exists
    { if [ "$folders" = '*' ]; then own; else printf '%s\n' "$folders"; fi; } | while IFS= read -r line; do
        folder=${line%%	*}
        [ ! -d "$folder" ] || [ -L "$folder" ] || printf '%s\n' "$line"
    done
}
obstacles() {  # obstacles: print why added files in $folders would not survive a purge
    declared | cut -f 1 | while IFS= read -r folder; do
        awk -v "folder=$folder" '$5 == folder || index($5, folder "/") == 1 {
            print "something is mounted on " $5 ", which removing the packages would empty" }' "$mounts"
        find "$folder" -xdev -name '*
*' | grep -q . && echo "a file in $folder has a line break in its name"
    done
    true
}
added() {  # added: print the files in $folders that do not belong to $packages
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
