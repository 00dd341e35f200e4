"""Checks of local files that an inventory names."""
