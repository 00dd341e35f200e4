"""exporters: what Prometheus reads of a host, its nginx, its database and its GPUs, and probes of the fronts."""
