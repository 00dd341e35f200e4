# shellcheck shell=sh
# Foreign architectures keep their suffix. dpkg(1) describes the log under --status-fd: `processing: install:
# NAME` before a new package is unpacked, `remove` and `purge` before one is removed.

native=$(dpkg --print-architecture 2>/dev/null)
lines() { sed -n "s/^$1 //p" "$2" 2>/dev/null; }
there() {  # there: print the names of installed packages, also incompletely installed ones
    dpkg-query -W -f='${Package} ${db:Status-Status}\n' |
        sed -En 's/ (installed|unpacked|half-.*|triggers-.*)$//p' | sort -u
}
logged() {  # logged RECORD: print the packages of its installations that are not recorded yet
    [ ! -f "$1.log" ] || awk -v native=":$native" -F ': ' '
        $1 != "processing" { next }
        { name = $3; start = length(name) - length(native) + 1
          if (start > 1 && substr(name, start) == native) name = substr(name, 1, start - 1) }
        $2 == "install" { came[name] = 1 }
        $2 == "remove" || $2 == "purge" { delete came[name] }
        END { for (name in came) print name }' "$1.log"
}
brought() { { lines brought "$1"; logged "$1"; } | sort -u; }  # brought RECORD
records() {  # records FOLDER: print its records, one path per line
    for file in "$1"/*; do
        case $file in *.log|*.new|*.before|*.added) continue ;; esac
        [ ! -f "$file" ] || echo "$file"
    done
}
