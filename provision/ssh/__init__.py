"""SSH as the user has it: routes, `~/.ssh/config`, host keys, logins."""
