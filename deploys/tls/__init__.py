"""tls: certificates from the project's own authority, or self-signed; issued and renewed from the laptop."""
