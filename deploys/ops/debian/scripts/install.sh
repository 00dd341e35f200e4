# shellcheck shell=sh
# shellcheck disable=SC2086,SC2119  # `$wanted` and `$installed_only` are lists of words; `attempt` takes no option
# What failed before dpkg was started is apt's choice of packages or a download: a fresh index may help.

. deploys/ops/debian/scripts/installing.sh
: "${wanted?}"
begin || exit 1
[ "$packages" ] || { finish "$wanted"; exit; }
automatic=$(apt-mark $installed_only showauto $wanted 2>/dev/null)
recent=$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -1440 2>/dev/null | head -n 1)
outcome=1
[ ! "$recent" ] || { attempt; outcome=$?; }
[ $outcome != 1 ] || dpkg_started || { apt update && attempt; outcome=$?; }
if [ $outcome = 0 ]; then finish "$wanted"; exit; fi
finish ""
exit 1
