"""kibana: searches log lines in the browser."""
