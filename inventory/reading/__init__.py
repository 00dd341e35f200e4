"""Reading of inventory files: YAML with positions, the schema, and error messages."""
