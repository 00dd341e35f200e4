"""base: packages, operators, SSH hardening, journal limits, time zone, the project's folders."""
