"""The runtime in a container: its image, and the programs that supervise and start it."""
