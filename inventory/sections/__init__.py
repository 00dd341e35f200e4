"""What is declared of one component each; `inventory.model` puts them together."""
