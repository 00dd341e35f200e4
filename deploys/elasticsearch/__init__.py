"""elasticsearch: keeps and searches log lines, on one node or three."""
