# shellcheck shell=sh

: "${formed?}" "${elsewhere?}" "${config?}" "${node?}" "${alive?}" "${note?}"
set -eu
mkdir -p "${formed%/*}"
if ! sh -c "$elsewhere" >/dev/null 2>&1; then
    cp -p "$config" "$config.clawd"
    trap 'mv -f "$config.clawd" "$config"' EXIT
    printf 'cluster.initial_master_nodes: ["%s"]\n' "$node" >> "$config"
    systemctl daemon-reload
    systemctl restart elasticsearch
    tries=0
    while ! error=$(sh -c "$alive" 2>&1); do
        tries=$((tries + 1))
        if [ "$tries" -ge 180 ] || [ "$(systemctl is-active elasticsearch)" = failed ]; then
            printf 'the cluster cannot be founded: %s\n' "$error" >&2
            journalctl --no-pager --quiet --lines 20 --unit elasticsearch >&2
            exit 1
        fi
        sleep 1
    done
fi
printf '%s' "$note" > "$formed"
chmod 0644 "$formed"
