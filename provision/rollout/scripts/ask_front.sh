# shellcheck shell=sh
# Prints the configuration on the disk and, below the line `STARTED`, the one that nginx last started with: a
# run may have been interrupted between the two. Files without `MARK` are not ours, nor are servers in them.

: "${mark?}" "${started?}"
files='etc/nginx/nginx.conf etc/nginx/clawd/upstreams.conf'
ours() {
    case $1 in *"$mark"*) printf '%s\n' "$1" ;; esac
}
cd /
systemctl is-active --quiet nginx || exit 0
for file in $files; do ours "$(cat "$file" 2>/dev/null)"; done
echo "$started"
kept=var/lib/clawd/state/nginx.service.good/files.tar
[ -f "$kept" ] || exit 0
for file in $files; do ours "$(tar -xOf "$kept" "$file" 2>/dev/null)"; done
