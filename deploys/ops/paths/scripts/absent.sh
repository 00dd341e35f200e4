# shellcheck shell=sh

. deploys/ops/paths/scripts/originals.sh
: "${path?}" "${remove?}"
set -eu
if [ "$(original "$path")" = kept ]; then
    put_back "$path" || exit
    forget "$path"
    exit
fi
keeper=$(keeper "$(dirname "$path")")
if [ "$keeper" ]; then exec python3 -I -c "$remove" "$path"; fi
if [ ! -L "$path" ] && mountpoint -q "$path"; then exec find "$path" -xdev -mindepth 1 -delete; fi
if ! careful "$path"; then
    rm -rf -- "$path" && { [ ! "$whose" ] || [ ! -d "$mine" ] || forget "$path"; }
    exit
fi
gone() {  # gone FILE: remove it, without following links of other users
    if [ "$(keeper "$(dirname "$1")")" ]; then python3 -I -c "$remove" "$1"; else rm -f -- "$1"; fi
}
going "$path" | while IFS= read -r line; do
    file=${line#* }
    case $line in
        "kept "*) put_back "$file" || exit; forget "$file" || exit ;;
        "ours "*) gone "$file" || exit; forget "$file" || exit ;;
        "other "*) gone "$file" || exit ;;
    esac
done
find "$path" -xdev -depth -type d -empty -delete
