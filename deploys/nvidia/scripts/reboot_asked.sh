# shellcheck shell=sh
# Packages for which the system requests a reboot (one per line in reboot-required.pkgs, if they are listed),
# as far as they concern the driver: a kernel, or one of NVIDIA's.

reboot_asked() {
    [ -e "$1/run/reboot-required" ] || return 0
    [ -s "$1/run/reboot-required.pkgs" ] || { echo "an unnamed package"; return; }
    grep -E '^(linux-|nvidia|libnvidia|libcuda|cuda)' "$1/run/reboot-required.pkgs" | sort -u | xargs
}
