"""elasticsearch."""
