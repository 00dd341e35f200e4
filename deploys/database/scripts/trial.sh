# shellcheck shell=sh
# Start a server with an empty database and the new file in place of the old. It listens only in its own
# folder.

: "${new?}" "${programs?}" "${config?}" "${setting?}"
set -eu
cd /
trial=$(mktemp -d /var/tmp/clawd-trial-XXXXXX)
as() { runuser -u postgres -- "$@"; }
ended() {
    as "$programs/pg_ctl" -D "$trial/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$trial"
}
trap ended EXIT
cp "$new" "$trial/new"
{
    echo "include '$config/postgresql.conf'"
    case $setting in
        hba_file) echo "hba_file = '$trial/new'" ;;
        include) echo "include '$trial/new'" ;;
    esac
    echo "data_directory = '$trial/data'"
    echo "external_pid_file = ''"
    echo "listen_addresses = ''"
    echo "unix_socket_directories = '$trial'"
    echo "logging_collector = off"
} > "$trial/postgresql.conf"
chown -R postgres "$trial"
as "$programs/initdb" -D "$trial/data" --no-sync --auth=peer --locale=C >/dev/null
as "$programs/pg_ctl" -D "$trial/data" -o "-c config_file=$trial/postgresql.conf" -l "$trial/log" \
    -w -t 30 start >/dev/null || { as cat "$trial/log"; exit 1; }
