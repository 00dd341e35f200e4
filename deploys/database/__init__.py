"""database: PostgreSQL that several bots share, for them alone, and its backups."""
