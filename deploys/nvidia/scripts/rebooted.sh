# shellcheck shell=sh
# When sshd answers, modules may still be loading.

. deploys/nvidia/scripts/loaded.sh
for _ in $(seq 60); do
    is_loaded && break
    case $(systemctl is-system-running 2>/dev/null) in running | degraded | maintenance) break ;; esac
    sleep 2
done
. deploys/nvidia/scripts/load.sh
