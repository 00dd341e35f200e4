# shellcheck shell=sh
# The fifth byte of the variable SecureBoot is its value (UEFI specification, section 3.3).

. deploys/nvidia/scripts/gpus.sh
. deploys/nvidia/scripts/reboot_asked.sh
. deploys/nvidia/scripts/kernel.sh
: "${root?}"
found=$(gpus "$root")
echo "$found"
for variable in "$root"/sys/firmware/efi/efivars/SecureBoot-*; do
    [ -f "$variable" ] && [ "$(od -An -tu1 -j4 -N1 "$variable" | tr -d ' ')" = 1 ] && echo "secure_boot yes"
done
[ ! -d "$root/sys/module/nouveau" ] || echo "nouveau yes"
sed -n 's/^NVRM version:.* \([0-9][0-9]*\.[0-9.]*\) .*/loaded \1/p' \
    "$root/proc/driver/nvidia/version" 2>/dev/null
dpkg-query -W -f='${db:Status-Status} ${Version} ${Package}\n' nvidia-open cuda-drivers 2>/dev/null |
    sed -n 's/^installed \([0-9.]*\).* \(.*\)/installed \1\npackage \2/p'
asked=$(reboot_asked "$root")
[ ! "$asked" ] || echo "reboot_asked $asked"
. /etc/os-release
echo "system $ID$(echo "$VERSION_ID" | tr -d .)"
echo "architecture $(dpkg --print-architecture)"
echo "kernel $(uname -r)"
echo "kernels $(kernels)"
[ ! "$found" ] || echo "headers $(headers "$(uname -r)")"
