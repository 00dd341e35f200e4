"""filebeat."""
