# shellcheck shell=sh

command -v docker >/dev/null || exit 0
used=$(docker ps --quiet --no-trunc | xargs -r docker inspect --format '{{.Image}}' 2>/dev/null)
docker images --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}}' 2>/dev/null | while read -r id name; do
    case $name in clawd-runtime:*|clawd-base:*) ;; *) continue ;; esac
    case $used in *"$id"*) ;; *) echo "$name" ;; esac
done
