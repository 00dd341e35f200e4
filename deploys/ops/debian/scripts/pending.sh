# shellcheck shell=sh

: "${inputs?}" "${form?}" "${origins?}" "${known?}"
pending() {  # print NAME=VERSION of packages that would be upgraded, from wanted origins
    # shellcheck disable=SC2086  # $inputs are several paths
    there=$(find -L $inputs -type f -printf '%p %s %C@\n' 2>/dev/null | sort)
    digest=$(printf '%s\n' "$form" "$origins" "$there" | sha256sum)
    if { read -r of; kept=$(cat); } 2>/dev/null <"$known" && [ "$of" = "$digest" ]; then
        printf '%s\n' "$kept"
        return
    fi
    planned=$(LC_ALL=C apt-get -s -q --with-new-pkgs upgrade </dev/null) || return 1
    found=$(printf '%s\n' "$planned" |
        sed -n 's/^Inst \([^ ]*\) \[[^]]*\] (\([^ ]*\) \(.*\) \[[^]]*\]).*/\1=\2 \3/p' |
        grep -E -e "$origins" | cut -d ' ' -f 1)
    printf '%s\n' "$found"
    if [ -d "${known%/*}" ]; then
        # Several runs may check at the same time.
        { printf '%s\n' "$digest" "$found" > "$known.$$" && mv "$known.$$" "$known"; } || rm -f "$known.$$"
    fi
}
