# shellcheck shell=sh
# A package that depends on a kernel with a version also installs the next one.

headers() {
    dpkg-query -W -f='${db:Status-Status}\n' "linux-headers-$1" 2>/dev/null | grep -qx installed ||
        apt-cache show "linux-headers-$1" >/dev/null 2>&1 && { echo package; return; }
    [ ! -e "/lib/modules/$1/build/Makefile" ] || { echo folder; return; }
    recent=$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -1440 2>/dev/null | head -n 1)
    [ "$recent" ] && echo missing || echo unknown
}
kernels() {
    dpkg-query -W -f='${db:Status-Status} ${Package} ${Depends}\n' 'linux-image-*' 2>/dev/null |
        sed -En '/^installed [^ ]*-dbg /d
            s/^installed (linux-image-[a-z][^ ]*) (.*[ ,])?linux-image-[0-9].*/\1/p' | xargs
}
