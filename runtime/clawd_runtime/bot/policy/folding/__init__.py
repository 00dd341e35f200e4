"""Folding of text: characters that people read as the same become the same unit."""
