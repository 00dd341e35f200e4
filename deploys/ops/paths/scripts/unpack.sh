# shellcheck shell=sh

: "${part?}" "${sums?}" "${marker?}" "${dest?}" "${digest?}" "${content?}"
file=$part
. deploys/ops/paths/scripts/arrived.sh
set -eu
umask 022
fresh="$dest.new"
trap 'rm -rf "$fresh"' EXIT
rm -rf "$fresh"
mkdir -p "$fresh"
tar -xzf "$part" -C "$fresh" --no-same-owner
# A file that is no valid Python for this version is not an error: packages carry such files as data.
(cd / && python3 -m compileall -q "$fresh" >/dev/null 2>&1) || true
(cd "$fresh" && find . -type f -exec sha256sum {} +) > "$dest.sums"
mv "$dest.sums" "$fresh/$sums"
printf '%s\n' "$content" > "$fresh/$marker"
# Otherwise after a power cut the marker might be next to empty files.
sync -f "$fresh"
rm -rf "$dest"
mv -T "$fresh" "$dest"
rm -f "$part"
