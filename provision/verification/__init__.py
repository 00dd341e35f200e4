"""Verification of hosts with the components' testinfra checks, and its recorded results."""
