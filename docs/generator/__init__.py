"""What writes the reference pages and gathers the site."""
