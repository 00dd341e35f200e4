"""The bot as a service: process, HTTP, readiness, metrics, and its cluster."""
