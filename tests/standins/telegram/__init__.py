"""A stand-in for the Telegram Bot API server. See ../README.md."""
