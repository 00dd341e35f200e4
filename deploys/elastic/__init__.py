"""Shared code of Elasticsearch, Logstash, Kibana and Filebeat: packages, passwords, HTTP APIs."""
