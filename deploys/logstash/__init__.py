"""logstash."""
