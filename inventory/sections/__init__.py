"""Sections of an inventory, one module for each; `inventory.model` combines them."""
