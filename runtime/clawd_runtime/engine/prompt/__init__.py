"""Prompts: chat templates and the markers in them."""
