"""Markdown as models write it: parsing, layout as plain text, splitting into messages."""
