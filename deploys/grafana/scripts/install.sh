# shellcheck shell=sh
# `attempt` and `finish` as in `packages.installed`; files of the package are recorded there as well.

. deploys/ops/debian/scripts/installing.sh
: "${digest?}" "${stamp?}"
begin || exit 1
attempt --reinstall || { finish ""; exit 1; }
finish "" || exit 1
printf '%s\n' "$digest" > "$stamp"
rm -f "$packages"
