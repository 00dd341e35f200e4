"""nvidia: GPU driver, persistence daemon, container toolkit."""
