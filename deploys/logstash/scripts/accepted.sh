# shellcheck shell=sh
# Logstash refuses to run as root, so its user may read the checked file. It writes to a folder of its own,
# not to the queue of the running service.

: "${new?}"
data=$(mktemp -d)
chown logstash "$data"
chgrp logstash "$new" && chmod 0640 "$new"
status=0
runuser -u logstash -- env "LS_JAVA_OPTS=-Xms256m -Xmx256m" CLAWD_ELASTICSEARCH_PASSWORD=of-no-account \
    /usr/share/logstash/bin/logstash --path.settings /etc/logstash --path.data "$data" \
    --path.logs "$data" --config.test_and_exit --path.config "$new" || status=$?
rm -rf "$data"
exit "$status"
