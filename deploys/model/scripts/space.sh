# shellcheck shell=sh

: "${path?}"
folder=$(dirname "$path")
while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
df --output=avail -B1 "$folder" | tail -n 1
if [ -e "$path" ]; then echo 1; else echo 0; fi
du -scb "$path".*.part 2>/dev/null | tail -n 1 | cut -f 1
