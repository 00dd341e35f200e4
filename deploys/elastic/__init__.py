"""What Elasticsearch, Logstash, Kibana and Filebeat share: packages, passwords, placement, HTTP APIs."""
