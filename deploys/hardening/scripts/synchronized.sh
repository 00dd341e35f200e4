# shellcheck shell=sh
# timesyncd needs a moment after it was started.

for _ in $(seq 20); do
    [ "$(timedatectl show --property NTPSynchronized --value)" = yes ] && exit
    sleep 1
done
exit 1
