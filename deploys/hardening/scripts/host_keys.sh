# shellcheck shell=sh
# Where sshd cannot report its keys, those of its default configuration are listed. Only the private part
# counts: a `.pub` file says nothing of what sshd can load, unless an agent holds the keys.

configuration=$(/usr/sbin/sshd -T 2>/dev/null)
value() { printf '%s\n' "$configuration" | sed -n "s/^$1 //p"; }
agent=$(value hostkeyagent)
files=$(value hostkey)
# shellcheck disable=SC2086  # paths, one a line, or a pattern
printf '%s\n' ${files:-/etc/ssh/ssh_host_*_key} | while IFS= read -r file; do
    if [ "${agent:-none}" != none ]; then ssh-keygen -lf "${file%.pub}.pub"
    else ssh-keygen -y -P '' -f "$file" </dev/null | ssh-keygen -lf -
    fi 2>/dev/null
done
value hostcertificate | while IFS= read -r file; do
    [ "$file" = none ] || ssh-keygen -lf "$file" 2>/dev/null
done
true
