# shellcheck shell=sh
# pg_createcluster looks for them there when it uses the data again.

: "${moved?}" "${folder?}" "${data?}" "${going?}"
set -eu
# find returns to where it started, and the home of a login is closed to postgres.
cd /
for file in $moved; do runuser -u postgres -- mv -fT "$folder/$file" "$data/$file"; done
for file in $going; do runuser -u postgres -- rm -f -- "$folder/$file"; done
runuser -u postgres -- find "$folder" -depth -type d -empty -delete
