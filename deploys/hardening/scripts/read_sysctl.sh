# shellcheck shell=sh
# A setting below a read-only mount is not writable for root either.

: "${before?}" "${keys?}" "${refused?}"
ours=
[ ! -f "$before" ] || ours=$(sed 's/=.*//' "$before" | tr '\n' ' ')
for key in $keys $ours; do
    file=/proc/sys/$(printf %s "$key" | tr ./ /.)
    if [ -r "$file" ]; then printf 'value %s=%s\n' "$key" "$(tr '\t' ' ' < "$file")"; fi
    if [ -w "$file" ]; then echo "writable $key"; fi
done
[ ! -f "$refused" ] || sed 's/^/refused /' "$refused"
[ ! -f "$before" ] || { echo kept; tr '\t' ' ' < "$before" | sed 's/^/before /'; }
