# shellcheck shell=sh

: "${image?}" "${base?}" "${fresh?}" "${dest?}" "${part?}"
printf 'IMAGE=%s\nBASE=%s\n' "$image" "$base" > "$fresh/live/image.env"
sync -f "$fresh"
rm -rf "$dest"
mv -T "$fresh/live" "$dest"
rm -f "$part"
