# shellcheck shell=sh
# The folder `$good` has the files as an archive, the names of those that did not exist, the stamp, and the
# probe: a newer probe may check for something that the old files do not provide.

: "${unit?}" "${timeout?}" "${good?}" "${action?}" "${stamp?}" "${value?}" "${masked?}" "${probe?}"
: "${kept?}" "${ready?}" "${undo?}" "${before?}"
set -u
umask 077
quietly() { output=$("$@" 2>&1) || { printf '%s\n' "$output" >&2; return 1; }; }
property() { systemctl show --property "$1" --value "$unit"; }
well() {  # well ACTION PROBE: do it and wait until it serves; else set `problem` to the reason
    case $1 in
        enable) ;;
        reload) quietly systemctl reload "$unit" || { problem="does not reload"; return 1; } ;;
        *)
            systemctl reset-failed "$unit" 2>/dev/null
            quietly systemctl restart "$unit" || { problem="does not start"; return 1; }
            ;;
    esac
    answer='' deadline=$(($(date +%s) + timeout))
    while :; do
        active=$(property ActiveState)
        [ "$active" != failed ] || { problem="fails after its start"; return 1; }
        if [ "$active" = active ]; then
            if [ -z "$2" ] || answer=$(sh -c "$2" 2>&1 </dev/null); then return; fi
        fi
        if [ "$(date +%s)" -ge "$deadline" ]; then
            [ -z "$answer" ] || printf 'its probe says: %s\n' "$answer" >&2
            problem="is not ready after $timeout seconds ($active)"
            return 1
        fi
        sleep 0.3
    done
}
failed() {
    echo "$unit: $1" >&2
    journalctl --namespace='*' --no-pager --quiet --lines 12 --unit "$unit" >&2
    as_before >&2
    exit 1
}
as_before() {
    if [ ! -d "$good" ]; then [ -z "$undo" ] || sh -c "$undo"; return; fi
    differs || return
    umask 022
    {
        tar -C / -xpf "$good/files.tar" &&
            while IFS= read -r path; do rm -f "$path"; done < "$good/absent"
    } ||
        { echo "$unit: the previous files cannot be restored"; return; }
    umask 077
    systemctl daemon-reload
    again=restart
    if [ "$action" = reload ] && [ "$(property ActiveState)" = active ]; then again=reload; fi
    if well "$again" "$(cat "$good/ready")"; then
        cp "$good/stamp" "$stamp.new" && mv -f "$stamp.new" "$stamp"
        echo "$unit: the previous files were restored, and it runs with them"
    else
        echo "$unit: the previous files were restored, but it $problem with them either"
    fi
}
differs() {
    tar -C / -df "$good/files.tar" >/dev/null 2>&1 || return 0
    while IFS= read -r path; do [ ! -e "$path" ] || return 0; done < "$good/absent"
    return 1
}
keep() {
    rm -rf "$good.new" || return
    if [ -z "$kept" ]; then rm -rf "$good" "$good.old"; return; fi
    mkdir "$good.new" || return
    printf '%s\n' "$kept" | while IFS= read -r path; do
        [ -e "$path" ] || [ -L "$path" ] || printf '%s\n' "$path" || exit
    done > "$good.new/absent" || return
    printf '%s\n' "$kept" | while IFS= read -r path; do
        if [ -f "$path" ] && [ "$(readlink -f "$path")" = "$path" ]; then echo "${path#/}"; fi
    done | tar -C / -cf "$good.new/files.tar" --no-recursion --verbatim-files-from -T - || return
    printf '%s' "$ready" > "$good.new/ready" || return
    printf '%s\n' "$value" > "$good.new/stamp" || return
    # If this is interrupted, the next run finds the old one.
    rm -rf "$good.old" || return
    [ ! -d "$good" ] || mv "$good" "$good.old" || return
    mv "$good.new" "$good" && rm -rf "$good.old"
}
[ -d "$good" ] || [ ! -d "$good.old" ] || mv "$good.old" "$good"
rm -f "$stamp"
# Always: systemd does not detect that a new folder of drop-ins needs it.
quietly systemctl daemon-reload || exit 1
case $(property UnitFileState) in
    masked) { touch "$masked" && quietly systemctl unmask "$unit"; } || failed "cannot be unmasked" ;;
    masked-runtime) quietly systemctl unmask --runtime "$unit" || failed "cannot be unmasked" ;;
esac
case $(property UnitFileState) in
    enabled|static|alias|indirect|generated) ;;
    *) quietly systemctl enable "$unit" || failed "cannot be enabled" ;;
esac
case $action in
    enable) before= ;;
    *) [ -z "$before" ] || before=$(sh -c "$before" 2>/dev/null </dev/null) ;;
esac
export before
well "$action" "$ready" || failed "$problem"
mkdir -p "${stamp%/*}"
keep || { echo "$unit: what it runs with cannot be kept in $good" >&2; exit 1; }
if [ "$ready" ]; then printf '%s\n' "$ready" > "$probe.new" && mv -f "$probe.new" "$probe" || exit 1; fi
# A state with this stamp has passed: the stamp is written only when the unit is ready.
printf '%s\n' "$value" > "$stamp.new" && mv -f "$stamp.new" "$stamp"
