"""alertmanager: groups the alerts of Prometheus into messages, which the bots deliver."""
