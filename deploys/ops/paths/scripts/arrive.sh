# shellcheck shell=sh

. deploys/ops/paths/scripts/arrived.sh
. deploys/ops/paths/scripts/live.sh

