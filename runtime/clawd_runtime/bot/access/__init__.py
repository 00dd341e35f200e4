"""Who may use the bot, for what, and how much: decisions as pure functions, and their effects."""
