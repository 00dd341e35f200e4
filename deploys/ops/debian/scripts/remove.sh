# shellcheck shell=sh
# shellcheck disable=SC2086  # `$packages`, `$more`, `$names` and `$installed_only` are lists of words

. deploys/ops/debian/scripts/apt.sh
. deploys/ops/debian/scripts/installed_only.sh
. deploys/ops/debian/scripts/protect.sh
. deploys/ops/paths/scripts/originals.sh
. deploys/ops/debian/scripts/set_aside.sh
: "${purge?}"
fileless() {
    systemctl list-units --all --plain --no-legend 2>/dev/null |
        sed -n 's/^\([^ ]*\) *not-found active .*/\1/p' | sort
}
# Since the plan, a package that depends on one of them may have been installed.
harmless() {
    more=$(apt $installed_only -s remove -- $packages | sed -En 's/^(Remv|Inst) ([^ ]*).*/\2/p' | sort -u |
        grep -vxF -e "$(printf '%s\n' $packages)")
    [ "$more" ] || return 0
    echo "removing $packages would also change" $more >&2
    echo "hint: check the plan again: packages that need them were installed in the meantime" >&2
    return 1
}
left() {  # left: print packages whose configuration remains and did not exist before their installation
    dpkg-query -W -f='${Package} ${db:Status-Status}\n' $packages 2>/dev/null |
        sed -n 's/ config-files$//p' | grep -vxF -e "$(lines residual "$record")"
}
before=$(fileless)
# Files that an interrupted run has set aside.
bring_back || exit 1
if [ "$packages" ]; then
    harmless || exit 1
    [ ! "$purge" ] || { unhindered && set_aside; } || exit 1
    apt $installed_only remove -- $packages || { bring_back; exit 1; }
    names=$(left)
    purged=yes
    [ ! "$purge" ] || [ ! "$names" ] || apt $installed_only purge -- $names || purged=
    bring_back && [ "$purged" ] || exit 1
fi
# Also end a unit whose file was removed. systemd no longer knows its stop command, which is not wanted anyway:
# that of nftables would delete the rules of other programs.
systemctl daemon-reload 2>/dev/null
fileless | grep -vxF -e "$before" | xargs -r systemctl stop
# A failed unit is still listed after its file was removed.
systemctl list-units --all --state=failed --plain --no-legend 2>/dev/null |
    sed -n 's/^\([^ ]*\) *not-found .*/\1/p' | xargs -r systemctl reset-failed
# Packages that are kept because others need them no longer belong to the component.
brought "$record" | grep -vxF -e "$(printf '%s\n' $packages)" | while read -r name; do
    records "${record%/*}" | grep -vxF "$record" |
        while read -r other; do echo "brought $name" >> "$other"; done
done
rm -f "$record" "$record.log" "$record.before" "$record.added.new"
[ ! -d "${record%/*}" ] || protect
