# shellcheck shell=sh

: "${config?}" "${before?}"
if [ -f "$before" ]; then mv -f "$before" "$config"; else rm -f "$config"; fi
systemctl reset-failed docker.service docker.socket
if systemctl restart docker; then echo "docker runs again with the configuration it had before"
else echo "nor does docker start with the configuration it had before"; fi
