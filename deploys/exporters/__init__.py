"""exporters: what Prometheus reads of a host, nginx, database and GPUs, and probes of the fronts."""
