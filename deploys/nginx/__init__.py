"""nginx: terminates TLS and passes webhooks, console and health check to the bots."""
