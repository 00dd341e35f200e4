"""Operations on Debian packages: installation, sources, updates, waiting for apt."""
