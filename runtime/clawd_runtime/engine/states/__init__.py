"""Saved states of conversations, apart from the slots in which they are computed."""
