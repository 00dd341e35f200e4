"""Databases of the bot: a SQLite file, or PostgreSQL."""
