# shellcheck shell=sh

. deploys/nvidia/scripts/loaded.sh
: "${rebooting?}" "${rebooted?}" "${reboot?}"
if read -r before driver 2>/dev/null <"$rebooting" && [ "$before" != "$boot" ]; then
    echo "$driver" > "$rebooted"
    rm "$rebooting"
fi
is_loaded && rm -f "$rebooted"
is_loaded && [ ! "$asked" ] && exit
refused=
if [ ! "$running" ] && [ ! -d "$root/sys/module/nouveau" ]; then
    modprobe nvidia || refused=yes
    is_loaded && [ ! "$asked" ] && exit
fi
# shellcheck disable=SC2016  # the quotes of a setting
again='reboot the host and run again, or write `nvidia.reboot: auto`, or `never` to continue without'
if [ "$reboot" = never ]; then
    exit
elif [ "$reboot" = auto ]; then
    ! is_loaded && [ "$(cat "$rebooted" 2>/dev/null)" = "$wanted" ] || exit 0
    # shellcheck disable=SC2016  # the quotes of a setting
    again='it is not rebooted again: fix that, reboot it, run again; or write `nvidia.reboot: never`'
fi
if is_loaded; then
    echo "the system asks for a reboot ($root/run/reboot-required: $asked)" >&2
elif [ "$refused" ]; then
    echo "driver $wanted is installed, and kernel $(uname -r) does not load it: modprobe says why, and" \
        "\`dkms status\` for which kernels it was built" >&2
elif [ "$reboot" = auto ]; then
    echo "driver $wanted is installed, and a reboot did not bring it (now: ${running:-nouveau}):" \
        "\`dkms status\` says for which kernels it was built, \`lsinitramfs\` what is loaded before it" >&2
else
    echo "driver $wanted is installed and starts with the next boot (now: ${running:-none loaded})" >&2
fi
echo "$again" >&2
exit 1
