# shellcheck shell=sh
# `harmless` and `finish` as in `packages.installed`; files of the package are recorded there as well.

. deploys/ops/debian/scripts/installing.sh
: "${digest?}" "${stamp?}"
begin || exit 1
logger="-o Dpkg::Options::=--status-logger=cat>>$record.log"
# shellcheck disable=SC2086  # a list of words
{ harmless && install --reinstall $logger; } || { finish ""; exit 1; }
finish "" || exit 1
printf '%s\n' "$digest" > "$stamp"
rm -f "$packages"
