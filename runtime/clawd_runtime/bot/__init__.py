"""clawd-bot: receives messages from chat platforms, gets answers from a model, and delivers them."""
