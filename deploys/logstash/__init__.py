"""logstash: turns log lines into fields, and writes them to Elasticsearch."""
