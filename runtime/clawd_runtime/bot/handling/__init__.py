"""The way of a message from the inbox to its answer in the outbox and to the platform."""
