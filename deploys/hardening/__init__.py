"""hardening: fail2ban, security updates, kernel settings, login banner, root login, time."""
