"""Checks of hosts before anything changes."""
