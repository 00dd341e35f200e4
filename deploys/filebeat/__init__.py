"""filebeat: sends the log lines of a host to Logstash."""
