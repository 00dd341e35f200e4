# shellcheck shell=sh
# Arguments: PATH...
# Print `PATH OPTIONS FREE INODES` for each folder that exists.

for path; do
    [ -d "$path" ] || continue
    options=$(findmnt --noheadings --output OPTIONS --target "$path" | tail -n 1)
    printf '%s %s %s\n' "$path" "$options" "$(df --output=avail,iavail -B1 "$path" | tail -n 1)"
done
