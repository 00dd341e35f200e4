"""disk: a blank data disk, formatted, mounted, and folders placed on it."""
