# shellcheck shell=sh

: "${kept?}" "${archive?}" "${runs?}" "${models?}" "${suffix?}" "${engine_config?}" "${engine_unit?}"
: "${bot_stamp?}" "${engine_stamp?}" "${bot_ready?}" "${further_configs?}" "${further_units?}" "${stamps?}"
set -eu
umask 022
cd /
. deploys/runtime/scripts/passed.sh
tar -tf "$archive" >/dev/null
# shellcheck disable=SC2086  # a list of paths
there() { find $kept 2>/dev/null | sort; }
archived() { tar -tf "$archive" | sed 's|/$||' | sort; }
serving() {
    systemctl is-active --quiet clawd-bot || return
    [ ! -f "$engine_unit" ] || systemctl is-active --quiet clawd-engine || return
    for unit in $(further); do systemctl is-active --quiet "$unit" || return; done
}
untouched() {
    [ "$(invocations)" = "$(cat "$runs")" ] &&
    [ "$(there)" = "$(archived)" ] && tar -df "$archive" >/dev/null 2>&1
}
if untouched && serving; then echo untouched; exit 0; fi
if ! archived | grep -qx "$engine_unit"; then
    systemctl disable --now clawd-engine 2>/dev/null || true
fi
for unit in $(further); do
    if ! archived | grep -qxF "${further_units%/*}/$unit"; then
        systemctl disable --now "$unit" 2>/dev/null || true
    fi
done
# Restore files first, then remove new ones: if this is interrupted, no file is missing.
tar -xpf "$archive"
archived > "$archive.names"
there | grep -vxFf "$archive.names" | while IFS= read -r path; do rm -rf "$path"; done
for aside in "$models"/*"$suffix"; do
    model=${aside%"$suffix"}
    if [ -f "$aside" ] && grep -qsF -e "$model" "$engine_config" "$further_configs"/*.json; then mv -f "$aside" "$model"; fi
done
rm -f "$archive.names" "$bot_stamp" "$engine_stamp" "$stamps"/clawd-engine@*.stamp
systemctl daemon-reload
systemctl reset-failed clawd-bot clawd-engine 2>/dev/null || true
if [ -f "$engine_unit" ]; then systemctl restart clawd-engine; fi
for unit in $(further); do
    systemctl enable "$unit" 2>/dev/null || true
    systemctl restart "$unit"
done
systemctl restart clawd-bot
systemctl is-active --quiet clawd-bot
if [ -f "$bot_ready" ]; then
    tries=0
    until answer=$(sh "$bot_ready" 2>&1 </dev/null); do
        tries=$((tries + 1))
        if [ $tries -ge 60 ]; then printf 'it starts, but is not ready: %s\n' "$answer" >&2; exit 1; fi
        sleep 1
    done
fi
# This state has passed again: renew its stamps.
tar -xpf "$archive" --touch --wildcards 'var/lib/clawd/state/*.stamp'
