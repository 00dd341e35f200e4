"""Word lists and rules of a policy: from the user's files to the one file that the bot reads."""
