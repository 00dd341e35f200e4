# shellcheck shell=sh

. deploys/database/scripts/sql.sh
: "${log?}" "${action?}" "${unit?}" "${files?}"
set -u
failed() {
    echo "PostgreSQL $1" >&2
    runuser -u postgres -- tail -n 20 "$log" >&2
    exit 1
}
systemctl enable --quiet postgresql.service
case $action in
    reload) systemctl reload "$unit" || failed "does not reload" ;;
    start|restart)
        systemctl reset-failed "$unit" 2>/dev/null
        systemctl start postgresql.service
        systemctl restart "$unit" || failed "does not start"
        ;;
esac
# shellcheck disable=SC2086  # a list of words
newest=$(stat -L -c %.9Y $files | sort -g | tail -n 1)
as_it_is="SELECT extract(epoch FROM pg_conf_load_time()) >= $newest
    AND NOT EXISTS (SELECT FROM pg_hba_file_rules WHERE error IS NOT NULL)"
deadline=$(($(date +%s) + 60))
until [ "$(sql postgres -c "$as_it_is" 2>/dev/null)" = t ]; do
    systemctl is-active --quiet "$unit" || failed "fails after its start"
    [ "$(date +%s)" -lt "$deadline" ] || failed "does not answer, or does not take its settings"
    sleep 0.2
done
