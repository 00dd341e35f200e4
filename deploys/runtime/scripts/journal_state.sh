# shellcheck shell=sh

: "${name?}" "${config?}"
if ! systemctl is-active --quiet "$name.service"; then
    systemctl is-active --quiet "$name.socket" && echo running || echo stopped
    exit 0
fi
# In microseconds: a first run writes the file and starts the service within one second.
began=$(systemctl show --timestamp=us --property ExecMainStartTimestamp --value "$name.service")
began=$(date -d "$began" +%s%6N)
written=$(stat -c %.6Y "$config" 2>/dev/null | tr -d .)
if [ "${written:-0}" -ge "$began" ]; then echo stale; else echo running; fi
