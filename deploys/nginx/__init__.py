"""nginx: ends TLS and passes the webhooks, the console and the health check to the bots."""
