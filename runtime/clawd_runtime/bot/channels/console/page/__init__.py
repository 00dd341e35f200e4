"""The page in the browser: chat with the bot at the address of the console."""
