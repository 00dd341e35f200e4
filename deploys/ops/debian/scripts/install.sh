# shellcheck shell=sh
# shellcheck disable=SC2086  # `$wanted` and `$logger` are lists of words
# Everything is downloaded first: only a failed download is a reason to retry with a fresh index.

. deploys/ops/debian/scripts/installing.sh
: "${wanted?}"
begin || exit 1
[ "$packages" ] || { finish "$wanted"; exit; }
automatic=$(apt-mark showauto $wanted 2>/dev/null)
logger=
[ ! "$record" ] || logger="-o Dpkg::Options::=--status-logger=cat>>$record.log"
recent=$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -1440 2>/dev/null | head -n 1)
if { [ "$recent" ] && install --download-only; } || { apt update && install --download-only; }; then
    if harmless && install $logger; then finish "$wanted"; exit; fi
fi
finish ""
exit 1
