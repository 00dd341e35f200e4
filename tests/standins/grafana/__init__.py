"""Stands in for Grafana's package, which cannot be had here: see `package.py`. It is not Grafana."""
