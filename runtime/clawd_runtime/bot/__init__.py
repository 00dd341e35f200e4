"""clawd-bot: takes messages from chat platforms, has a model answer them, and delivers the answers."""
