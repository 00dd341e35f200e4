# shellcheck shell=sh
# On the user's machine nothing is installed: print what is missing.

bring() {  # bring WHAT PACKAGE...
    what=$1
    shift
    fail "there is no $what: apt-get install --no-install-recommends $*"
}
add_repository() { :; }
clean() { :; }
