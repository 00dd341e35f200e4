# shellcheck shell=sh

. provision/rollout/scripts/find.sh
"$upstream" restore "$name"
