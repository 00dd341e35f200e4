# shellcheck shell=sh

. deploys/docker/scripts/live.sh
: "${stamp?}"
live
cat "$stamp" 2>/dev/null || echo
