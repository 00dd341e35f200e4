"""How one sandbox host runs: its root filesystem, its files, and systemd-nspawn or Docker."""
