# shellcheck shell=sh

. deploys/ops/paths/scripts/originals.sh
: "${verified?}"
[ ! -f "$verified/$whose" ] || echo verified
[ -d "$originals/$whose" ] || exit 0
echo noted
cat "$originals/$whose/ours" 2>/dev/null | sort -u | while IFS= read -r path; do
    copy="$originals/$whose/files$path"
    [ -e "$copy" ] || [ -L "$copy" ] || continue
    if orphaned "$path"; then echo "orphaned $path"; else echo "kept $path"; fi
done
true
