"""grafana: dashboards of what Prometheus has measured."""
