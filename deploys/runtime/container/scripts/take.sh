# shellcheck shell=sh

. deploys/runtime/container/scripts/prepare.sh
image=$(cd / && python3 "$fresh/build.py" take < "$fresh/order.json")
if [ -z "$image" ]; then exit 0; fi
. deploys/runtime/container/scripts/live.sh
