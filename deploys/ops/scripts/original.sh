# shellcheck shell=sh
# Arguments: PROGRAM... Print those that are not as their package installed them.
# dpkg knows a program by its path with or without /usr, as the package had it before the two were merged.

for program; do
    path=$(readlink -f "$(command -v "$program")")
    name=${path#/}
    known=$(sed -n "s#^\([0-9a-f]\{32\}\)  \(usr/\)\{0,1\}${name#usr/}\$#\1#p" /var/lib/dpkg/info/*.md5sums |
        tr '\n' ' ')
    case " $known" in *" $(md5sum < "$path" | cut -c1-32) "*) ;; *) echo "$program" ;; esac
done
