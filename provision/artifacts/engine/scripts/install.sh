# shellcheck shell=sh
# New packages are found by comparing with those before, so that an interrupted build is cleaned up as well.

: "${sudo?}" "${uri?}" "${keyring?}" "${key?}"
root() { $sudo "$@"; }
apt_get() { root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"; }
packages() { dpkg-query -W -f '${Package}\n' | sort -u; }
bring() {  # bring WHAT PACKAGE...
    echo "installing the $1"
    shift
    [ -f packages.before ] || packages > packages.before
    apt_get update || fail 'cannot update the package index: check the network and sudo without a password'
    apt_get install --no-install-recommends "$@" || fail "cannot install $*"
}
# The repository exists if a run has installed the driver; apt refuses a second entry with another key.
add_repository() {
    if grep -qsF "$uri" /etc/apt/sources.list.d/*.sources; then return; fi
    source_added=/etc/apt/sources.list.d/clawd-engine-build.sources
    key_added=$keyring
    root install -D -m 0644 "$key" "$key_added" || fail 'cannot install the key of the repository'
    printf 'Types: deb\nURIs: %s\nSuites: /\nSigned-By: %s\n' "$uri" "$key_added" > build.sources
    root install -m 0644 build.sources "$source_added" || fail 'cannot add the repository'
}
clean() {
    [ ! "${source_added-}" ] || root rm -f "$source_added" "$key_added"
    [ -f packages.before ] || return 0
    packages > packages.after
    added=$(comm -13 packages.before packages.after)
    [ -n "$added" ] || return 0
    echo 'removing the compilers' || true
    # shellcheck disable=SC2086  # a list of words
    apt_get purge $added >/dev/null 2>&1 || true
}
