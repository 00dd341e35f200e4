"""Stand-ins for platforms that a test cannot have. See README.md."""
