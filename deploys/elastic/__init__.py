"""Shared code of Elasticsearch, Logstash, Kibana and Filebeat: packages, passwords, placement, HTTP APIs."""
