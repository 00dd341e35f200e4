# shellcheck shell=sh
# shellcheck disable=SC2046,SC2086  # names of packages are lists of words
# apt marks packages that it upgrades by name as manual, and would never remove them automatically again.

. deploys/ops/debian/scripts/apt.sh
. deploys/ops/debian/scripts/installed_only.sh
. deploys/ops/debian/scripts/pending.sh
: "${record?}"
apt -o APT::Update::Error-Mode=any update || exit 1
packages=$(pending) || exit 1
if [ "$packages" ]; then
    automatic=$(apt-mark $installed_only showauto $(printf '%s\n' "$packages" | sed 's/=.*//'))
    apt install --only-upgrade --no-remove --no-install-recommends -- $packages || exit 1
    [ -z "$automatic" ] || apt-mark $installed_only auto $automatic >/dev/null
fi
mkdir -p "${record%/*}"
touch "$record"
