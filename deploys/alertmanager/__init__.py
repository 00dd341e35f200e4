"""alertmanager: gathers what Prometheus finds into messages, and has the bots tell them."""
