"""The bot's memory: inbox, history, outbox and channel state in one database."""
