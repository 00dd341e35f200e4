"""firewall: nftables, everything closed to the outside but what is declared or needed by a component."""
