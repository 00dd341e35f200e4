# shellcheck shell=sh
# The archive is checked before anything is received, because that overwrites `digest`.

: "${part?}" "${dest?}" "${digest?}"
if [ "$(sha256sum < "$part" | cut -c1-64)" != "$digest" ]; then
    rm -f "$part"
    echo "$dest: what arrived is damaged; it was removed" >&2
    exit 1
fi
. deploys/runtime/container/scripts/prepare.sh
tar -xzf "$part" -C "$fresh/unpacked" --no-same-owner
image=$(cd / && python3 "$fresh/build.py" make < "$fresh/order.json")
. deploys/runtime/container/scripts/live.sh
