"""Connections to hosts: one link per host, the session over pyinfra, locks, and the proxy for packages."""
