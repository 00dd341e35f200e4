"""Stand-ins for Elastic's packages: see README.md."""
