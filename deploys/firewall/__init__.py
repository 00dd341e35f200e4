"""firewall: nftables, everything closed to the outside except what is declared or needed by a component."""
