# shellcheck shell=sh
# shellcheck disable=SC2046,SC2086  # names of packages are lists of words
# Candidates are packages that only this component brought and wants, and that are not marked as manual. Of
# these, a package is kept, with its dependencies, if another one depends on it; and
# when a package that was installed later recommends it. Earlier packages worked without it.

. deploys/ops/debian/scripts/records.sh
. deploys/ops/debian/scripts/installed_only.sh
: "${records?}" "${component?}"
cd "$records" 2>/dev/null || exit 0
[ -f "$component" ] || [ -f "$component.log" ] || exit 0
echo recorded
others=$(records . | grep -vxF "./$component" | while read -r file; do lines wants "$file"; done)
theirs=$(apt-mark $installed_only showmanual 2>/dev/null)
if grep -q '^there ' "$component" 2>/dev/null; then
    theirs=$(printf '%s\n' "$theirs" | grep -xF -e "$(lines marked "$component")")
else
    # Of an earlier version, which did not mark packages.
    theirs=$(printf '%s\n' "$theirs" | grep -vxF -e "$(lines wants "$component")")
fi
going=$(brought "$component" | while read -r name; do
    printf '%s\n' "$others" "$theirs" | grep -qxF -e "$name" && continue
    state=$(dpkg-query -W -f='${db:Status-Status}\n' "$name" 2>/dev/null | head -n 1)
    case $state in installed|config-files|half-*|unpacked|triggers-*) echo "$name" ;; esac
done)
recommended() {  # recommended: print those of $going that only later packages recommend
    came=$(there | grep -vxF -e "$(lines there "$component")" |
        grep -vxF -e "$(records . | while read -r file; do brought "$file"; done)")
    [ "$came" ] || return 0
    {
        printf '%s\n' "$going" | sed 's/^/G|/'
        dpkg-query -W -f='I|${Package}|${Provides}|${db:Status-Status}\n' | sed -n 's/|installed$//p'
        dpkg-query -W -f='R|${Package}|${Recommends}\n' $came 2>/dev/null
    } | awk '
        function bare(text) { gsub(/\(.*\)|:.*|[ \t]/, "", text); return text }
        { kind = substr($0, 1, 1); rest = substr($0, 3) }
        kind == "G" { going[rest] = 1; next }
        {
            cut = index(rest, "|"); name = substr(rest, 1, cut - 1); rest = substr(rest, cut + 1)
            count = split(rest, groups, ",")
        }
        kind == "I" {
            gives[name] = gives[name] " " name
            for (i = 1; i <= count; i++) gives[bare(groups[i])] = gives[bare(groups[i])] " " name
        }
        kind == "R" {
            for (i = 1; i <= count; i++) {
                stays = 0; only = ""
                alternatives = split(groups[i], words, "|")
                for (j = 1; j <= alternatives; j++) {
                    having = split(gives[bare(words[j])], names, " ")
                    for (k = 1; k <= having; k++)
                        if (names[k] in going) only = only names[k] "\n"; else stays = 1
                }
                if (!stays) printf "%s", only
            }
        }' | sort -u
}
[ ! "$going" ] || going=$(printf '%s\n' "$going" | grep -vxF -e "$(recommended)")
# If removing a package would install another one in its place, it is needed as well.
taken() { apt-get $installed_only -s -q remove -- $1 2>/dev/null | sed -En 's/^(Remv|Inst) ([^ ]*).*/\2/p' | sort -u; }
beyond() { taken "$*" | grep -vxF -e "$going" | grep -q .; }
# Of many packages few are needed: those are bisected instead of asking apt for each.
harmless() {
    beyond "$@" || { printf '%s\n' "$@"; return 0; }
    [ $# -gt 1 ] || return 0
    harmless $(printf '%s\n' "$@" | head -n $(($# / 2)))
    harmless $(printf '%s\n' "$@" | tail -n +$(($# / 2 + 1)))
}
while [ "$going" ] && beyond $going; do
    kept=$(harmless $going)
    [ "$kept" != "$going" ] || break
    going=$kept
done
[ ! "$going" ] || printf '%s\n' "$going"
