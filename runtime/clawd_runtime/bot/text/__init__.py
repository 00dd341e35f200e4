"""Texts that users see: the bot's own messages, splitting, cleaning."""
