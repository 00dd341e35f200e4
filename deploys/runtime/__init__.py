"""clawd-engine and clawd-bot: a release named by its digest, settings and secrets, and two units."""
