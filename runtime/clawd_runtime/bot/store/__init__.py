"""The bot's storage: inbox, history, outbox and channel state in one database."""
