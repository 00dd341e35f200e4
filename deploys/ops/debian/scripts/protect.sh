# shellcheck shell=sh

. deploys/ops/debian/scripts/records.sh
: "${record?}" "${protected?}"
protect() {  # protect: configure apt to keep the packages that components want
    wants=$(records "${record%/*}" | while read -r file; do lines wants "$file"; done | sort -u)
    [ "$wants" ] || { rm -f "$protected"; return; }
    {
        echo "// Written by clawd-provision: apt autoremove keeps what its components want."
        echo "APT::NeverAutoRemove {"
        printf '%s\n' "$wants" | sed 's/[.+]/\\&/g; s/.*/  "^&$";/'
        echo "};"
    } > "$protected.new" && chmod 0644 "$protected.new"
    if cmp -s "$protected.new" "$protected"; then rm -f "$protected.new"
    else mv -f "$protected.new" "$protected"; fi
}
