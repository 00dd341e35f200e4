# shellcheck shell=sh
# The tool creates the file again, as root; Elasticsearch, through its group, writes to it at its start.

. deploys/ops/scripts/receive.sh
: "${keystore?}" "${tool?}" "${record?}" "${value?}"
set -eu
umask 077
secret=$(mktemp)
trap 'rm -f "$secret"' EXIT
receive "$secret"
[ -f "$keystore" ] || "$tool" create >&2
"$tool" add --stdin --force bootstrap.password < "$secret" >&2
chown root:elasticsearch "$keystore"
chmod 660 "$keystore"
mkdir -p "${record%/*}"
printf '%s %s\n' "$value" "$(sha256sum < "$keystore" | cut -c1-64)" > "$record.new"
mv -f "$record.new" "$record"
