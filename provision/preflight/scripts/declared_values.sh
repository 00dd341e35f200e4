# shellcheck shell=sh

: "${zone?}" "${stamps?}" "${sources?}" "${parents?}" "${settings?}" "${logins?}" "${device?}"
: "${updated?}" "${wanted?}"
known=unknown
[ ! -d /usr/share/zoneinfo/Etc ] || known=no
[ ! -f "/usr/share/zoneinfo/$zone" ] || known=yes
echo "asked=zone|$known|$(awk -v zone="$zone" '$1 == "L" && $3 == zone {print $2; exit}' \
    /usr/share/zoneinfo/tzdata.zi 2>/dev/null)"
# An index that is a day old may lack what its source has now, as one does that was read before the sources
# changed. Files of the index have the time of their server, so only a recent one shows when it was read.
whole() {  # whole: print the existing files of the index, except those of media and of security updates
    # shellcheck disable=SC2016  # names of apt
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(FILENAME)' 'Created-By: Packages' 2>/dev/null |
        while read -r uri release file; do
            case $uri:$release in cdrom:*|*-security) continue ;; esac
            for file in "$file" "$file".*; do [ ! -s "$file" ] || printf '%s\n' "$file"; done
        done
}
fresh() {  # fresh: whether apt's index of its sources is current
    [ "$(whole)" ] || return 1
    # shellcheck disable=SC2086  # a list of words
    { whole; ls -d $stamps 2>/dev/null; } | while IFS= read -r file; do
        [ "$(find "$file" -mmin -1440 2>/dev/null)" ] || continue
        # The time of a folder is that of the last file that was added or removed.
        # shellcheck disable=SC2086  # lists of words
        [ "$({ find -L $sources -newer "$file"; find -L $parents -maxdepth 0 -newer "$file"; } 2>/dev/null |
            head -n 1)" ] || echo fresh
    done | grep -q fresh
}
if [ "$wanted" ] && { [ "$updated" ] || fresh; }; then
    # shellcheck disable=SC2086  # a list of words
    found=$(apt-cache policy $wanted 2>/dev/null | awk '
        /^[^ ].*:$/ {name = substr($1, 1, length($1) - 1)}
        /^  (Installed|Candidate): / && $2 != "(none)" {print name}')
    for package in $wanted; do
        if printf '%s\n' "$found" | grep -qxF "$package"; then continue; fi
        instead=$(apt-cache showpkg "$package" 2>/dev/null | sed '1,/^Reverse Provides:/d' |
            cut -d ' ' -f 1 | sort -u | head -n 5 | tr '\n' ' ')
        begin=$(printf %.2s "$package")
        echo "asked=package|$package|$instead|$(apt-cache pkgnames "$begin" | head -n 3000 | tr '\n' ' ')"
    done
fi
for key in $settings; do
    file=/proc/sys/$(printf %s "$key" | tr ./ /.)
    there=no; [ ! -e "$file" ] || there=yes
    able=no; [ ! -w "$file" ] || able=yes
    echo "asked=setting|$key|$there|$able|$(tr '\t' ' ' < "$file" 2>/dev/null | head -n 1)"
done
for login in $logins; do
    group=no; ! getent group "$login" >/dev/null || group=yes
    echo "asked=login|$login|$(id -u "$login" 2>/dev/null)|$group"
done
if [ "$device" ] && [ ! -b "$device" ]; then
    echo "asked=device|$(lsblk -dpno NAME,TYPE 2>/dev/null | awk '$2 == "disk" {print $1}' | tr '\n' ' ')"
fi
