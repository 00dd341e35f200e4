"""The sections of an inventory, one for each component; `inventory.model` combines them."""
