"""A deterministic simulation of the bot: virtual time, crashes and faults, all from one seed."""
