# shellcheck shell=sh

sql() { cd / && runuser -u postgres -- psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$@"; }
