# shellcheck shell=sh
# Print the methods that sshd offers to a client without credentials; at its own addresses if it does not listen on all.

command -v ssh >/dev/null || exit 0
place=$(/usr/sbin/sshd -T | sed -n 's/^listenaddress //p' | head -n 1)
port=${place##*:} address=${place%:*}
case $address in 0.0.0.0|'[::]'|'') address=127.0.0.1 ;; esac
address=${address#[} address=${address%]}
offered=$(ssh -F none -o BatchMode=yes -o PreferredAuthentications=none -o StrictHostKeyChecking=no \
    -o UserKnownHostsFile=/dev/null -o GlobalKnownHostsFile=/dev/null -o ConnectTimeout=10 \
    -p "$port" root@"$address" true 2>&1 </dev/null | sed -n 's/.*Permission denied (\(.*\))\..*/\1/p')
case $offered in publickey|'') ;; *) echo "$offered" >&2; exit 1 ;; esac
