# shellcheck shell=sh

keeper() {  # keeper FOLDER: print the user, other than root and the current one, who may redirect the path
    kept=
    for way in "$1" "$(readlink -m -- "$1")"; do
        while :; do
            owner=$(stat -c %U -- "$way" 2>/dev/null || echo root)
            case $owner in
                root|"$(id -un)"|"$kept") ;;
                *)
                    [ -z "$kept" ] || { echo "$1 belongs to $kept and to $owner" >&2; return 1; }
                    kept=$owner
                    ;;
            esac
            [ "$way" != / ] && [ "$way" != . ] || break
            way=$(dirname -- "$way")
        done
    done
    echo "$kept"
}
as_keeper() {  # as_keeper USER COMMAND...: run it with the rights of USER only
    user=$1
    shift
    (cd / && exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups --inh-caps=-all -- "$@")
}
own_only() {  # own_only PATH USER OWNER: fail if a file in USER's folder is to belong to OWNER
    [ "$2" = "$3" ] && return
    echo "$1 cannot belong to $3: $2 owns the folder, and may replace it" >&2
    return 1
}
