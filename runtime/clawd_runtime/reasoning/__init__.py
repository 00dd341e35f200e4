"""Separation of a model's reasoning from its answer."""
