# shellcheck shell=sh
# Arguments: PATH...
# Each as `PATH OPTIONS FREE INODES`; a missing folder is left out.

for path; do
    [ -d "$path" ] || continue
    options=$(findmnt --noheadings --output OPTIONS --target "$path" | tail -n 1)
    printf '%s %s %s\n' "$path" "$options" "$(df --output=avail,iavail -B1 "$path" | tail -n 1)"
done
