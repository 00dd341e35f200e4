# shellcheck shell=sh
# Only this repository is read, so that failures of others are not reported as its own.

. deploys/ops/scripts/receive.sh
: "${keyring?}" "${path?}" "${options?}"
set -eu
mkdir -p "${keyring%/*}"
for file in "$path" "$keyring"; do if [ -f "$file" ]; then cp -p "$file" "$file.old"; fi; done
back() {
    for file in "$path" "$keyring"; do
        if [ -f "$file.old" ]; then mv -f "$file.old" "$file"; else rm -f "$file"; fi
    done
}
trap back EXIT
for file in "$keyring" "$path"; do
    receive "$file.new"
    chmod 0644 "$file.new"
    mv -f "$file.new" "$file"
done
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
# shellcheck disable=SC2086  # $options are several arguments
apt-get -q -o DPkg::Lock::Timeout=120 -o APT::Update::Error-Mode=any $options \
    -o Dir::Etc::sourcelist="$path" -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 update </dev/null
trap - EXIT
rm -f "$path.old" "$keyring.old"
