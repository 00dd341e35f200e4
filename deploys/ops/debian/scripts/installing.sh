# shellcheck shell=sh
# shellcheck disable=SC2086  # `$packages`, `$wanted`, `$new` and their like are lists of words
# Functions for installations that are recorded.

. deploys/ops/debian/scripts/apt.sh
. deploys/ops/debian/scripts/installed_only.sh
. deploys/ops/debian/scripts/protect.sh
. deploys/ops/paths/scripts/originals.sh
: "${packages?}" "${record?}"
log=$record.log
[ "$record" ] || { log=$(mktemp) && trap 'rm -f "$log"' EXIT || exit 1; }
install() {  # install OPTION...: with dpkg's own record of what it does in $log
    apt install --no-install-recommends --allow-downgrades -o "Dpkg::Options::=--status-logger=cat>>$log" \
        "$@" -- $packages
}
attempt() {  # attempt OPTION...: install; 2 if that would remove what no component brought
    install --no-remove "$@" && return
    ! dpkg_started && going=$(removals) && [ "$going" ] || return 1
    harmless || return 2
    install "$@"
}
dpkg_started() { [ -s "$log" ]; }  # dpkg_started: whether dpkg ran, and so may have changed something
removals() {  # removals: what has to go for $packages
    apt -s install --no-install-recommends --allow-downgrades -- $packages 2>/dev/null |
        sed -n 's/^Remv \([^ ]*\).*/\1/p' | sort -u
}
begin() {  # begin: record installed packages, and first those of an interrupted installation
    [ "$record" ] || return 0
    mkdir -p "${record%/*}"
    earlier || (umask 077; first) || return
    rm -f "$record.before"  # of earlier versions: it does not show which component installed packages
    [ ! -f "$record.log" ] || finish ""
    {
        [ ! -f "$record" ] || cat "$record"
        grep -qs '^there ' "$record" || there | sed 's/^/there /'
        dpkg-query -W -f='${Package} ${db:Status-Status}\n' | sed -n 's/^\(.*\) config-files$/residual \1/p'
    } | grep . | sort -u > "$record.new" && mv -f "$record.new" "$record"
}
finish() {  # finish WANTED: record the packages that installations have brought, and the wanted ones
    [ "$record" ] || return 0
    all=$(brought "$record" | grep -xF -e "$(there)")
    new=$(printf '%s\n' "$all" | grep -vxF -e "$(lines marked "$record")")
    {
        [ ! -f "$record" ] || sed '/^brought /d' "$record"
        [ ! "$1" ] || printf 'wants %s\n' $1
        [ ! "$all" ] || printf 'brought %s\n' $all
    } | sort -u > "$record.new" && mv -f "$record.new" "$record" || return
    protect
    # apt marks dependencies itself, but not if it is killed, and drops the mark of incomplete packages.
    [ ! "$new$automatic" ] || apt-mark $installed_only auto $new $automatic >/dev/null
    whole=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' | sed -n 's/ installed$//p')
    {
        grep -v '^marked ' "$record"
        { lines marked "$record"; [ ! "$new" ] || apt-mark $installed_only showauto $new; } |
            grep -xF -e "$all" | grep -xF -e "$whole" | sed 's/^/marked /'
    } | sort -u > "$record.new" && mv -f "$record.new" "$record" && rm -f "$record.log"
}
harmless() {  # harmless: whether components brought all of $going
    [ "$record" ] || return 0
    foreign=$(printf '%s\n' "$going" | grep -vxF -e "$(
        records "${record%/*}" | while read -r file; do brought "$file"; done)")
    [ "$foreign" ] || return 0
    echo "installing $packages would remove" $foreign >&2
    echo "hint: clawd-provision did not install these; remove them yourself if you can do without them" >&2
    return 1
}
automatic=
