"""Continuous batching: schedule, sequences, slots."""
