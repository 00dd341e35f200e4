"""Sections of an inventory that components read; `inventory.model` has the others and combines them."""
