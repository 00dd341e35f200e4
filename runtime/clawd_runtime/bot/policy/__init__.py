"""What may be said: word lists and rules for everything that is asked, shown or stored."""
