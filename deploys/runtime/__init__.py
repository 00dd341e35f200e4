"""clawd-engine and clawd-bot: a release by digest, their settings and secrets, and two units."""
