# shellcheck shell=sh

. deploys/nvidia/scripts/loaded.sh
: "${rebooting?}"
is_loaded && [ ! "$asked" ] && { echo loaded; exit; }
systemd-run --quiet --on-active=2 --timer-property=AccuracySec=100ms systemctl reboot >&2 || exit 1
mkdir -p "${rebooting%/*}"
echo "$boot $wanted" > "$rebooting"
echo "$boot"
