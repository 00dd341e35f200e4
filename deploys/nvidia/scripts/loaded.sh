# shellcheck shell=sh
# Loaded modules are not unloaded: they may be in use. Without nouveau a first driver needs no reboot.

. deploys/nvidia/scripts/reboot_asked.sh
: "${root?}"
wanted=$(dpkg-query -W -f='${db:Status-Status} ${Version}\n' nvidia-open cuda-drivers 2>/dev/null |
    sed -n 's/^installed \([0-9.]*\).*/\1/p')
is_loaded() {
    running=$(sed -n 's/^NVRM version:.* \([0-9][0-9]*\.[0-9.]*\) .*/\1/p' \
        "$root/proc/driver/nvidia/version" 2>/dev/null)
    [ "$running" = "$wanted" ]
}
# shellcheck disable=SC2034  # for the programs that source this
asked=$(reboot_asked "$root")
# shellcheck disable=SC2034  # for the programs that source this
boot=$(cat /proc/sys/kernel/random/boot_id)
