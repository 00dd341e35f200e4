# shellcheck shell=sh
# Keep the replaced file next to the stamps until the new one is in use, and check the new one.

: "${new?}" "${config?}" "${before?}" "${known?}"
mkdir -p "$(dirname "$before")"
if [ -f "$config" ]; then cp -p "$config" "$before"; else rm -f "$before"; fi
if dockerd --help 2>/dev/null | grep -q -e --validate; then
    dockerd --validate --config-file "$new"
else
    # shellcheck disable=SC2086  # a list of words
    python3 -c '
import json, sys
unknown = set(json.load(open(sys.argv[1]))) - set(sys.argv[2:])
sys.exit(", ".join(sorted(unknown)) + ": unknown to this Docker engine" if unknown else 0)
' "$new" $known
fi
