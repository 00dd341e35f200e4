# shellcheck shell=sh
# Print `gpu ADDRESS DEVICE DRIVER` for each GPU. Class 0x0300xx is a VGA controller, 0x0302xx a 3D controller (PCI
# Code and ID Assignment Specification).

gpus() {
    for device in "$1"/sys/bus/pci/devices/*; do
        [ "$(cat "$device/vendor" 2>/dev/null)" = 0x10de ] || continue
        case $(cat "$device/class") in 0x0300*|0x0302*) ;; *) continue ;; esac
        bound=$(readlink "$device/driver" || true)
        echo "gpu ${device##*/} $(cat "$device/device") ${bound##*/}"
    done
}
